//! The kinds of layers around a packet that have a word in the pipeline language: filters look through them, edits strip them.

use std::str::FromStr;

use thiserror::Error;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Layer {
    /// VLAN tags. Filters look through however many there are; edits take the outermost off.
    Vlan,
    /// VLAN tags in a row. Filters look through those whose outermost is a service tag, and through two and more; edits take all
    /// off.
    Qinq,
    /// MPLS labels, however many, the Ethernet pseudowire behind them, and the UDP or IP that carries labels.
    Mpls,
    /// VXLAN and VXLAN-GPE.
    Vxlan,
    Geneve,
    /// GRE and NVGRE, in UDP too.
    Gre,
    /// GTP-U.
    Gtp,
    /// IPv4 or IPv6 in IPv4 or IPv6.
    Ipip,
    /// ERSPAN I, II and III.
    Erspan,
    /// Cisco's VN-Tag.
    Vntag,
    /// E-Tag of 802.1BR.
    Etag,
    /// Cisco FabricPath.
    Fabricpath,
    /// Cisco MetaData.
    Cmd,
    /// Network Service Header.
    Nsh,
    /// TZSP.
    Tzsp,
    /// L2TP version 2, with PPP.
    L2tp,
    /// PPTP: GRE version 1, with PPP.
    Pptp,
    /// EtherIP.
    Etherip,
    /// Ethernet in IP with protocol 143, as segment routing over IPv6 carries it.
    Srv6,
    /// Teredo.
    Teredo,
    /// The data channel of CAPWAP.
    Capwap,
}

impl Layer {
    pub const ALL: [Layer; 21] = [
        Layer::Vlan,
        Layer::Qinq,
        Layer::Mpls,
        Layer::Vxlan,
        Layer::Geneve,
        Layer::Gre,
        Layer::Gtp,
        Layer::Ipip,
        Layer::Erspan,
        Layer::Vntag,
        Layer::Etag,
        Layer::Fabricpath,
        Layer::Cmd,
        Layer::Nsh,
        Layer::Tzsp,
        Layer::L2tp,
        Layer::Pptp,
        Layer::Etherip,
        Layer::Srv6,
        Layer::Teredo,
        Layer::Capwap,
    ];

    /// Its word in the pipeline language.
    pub fn word(self) -> &'static str {
        match self {
            Layer::Vlan => "vlan",
            Layer::Qinq => "qinq",
            Layer::Mpls => "mpls",
            Layer::Vxlan => "vxlan",
            Layer::Geneve => "geneve",
            Layer::Gre => "gre",
            Layer::Gtp => "gtp",
            Layer::Ipip => "ipip",
            Layer::Erspan => "erspan",
            Layer::Vntag => "vntag",
            Layer::Etag => "etag",
            Layer::Fabricpath => "fabricpath",
            Layer::Cmd => "cmd",
            Layer::Nsh => "nsh",
            Layer::Tzsp => "tzsp",
            Layer::L2tp => "l2tp",
            Layer::Pptp => "pptp",
            Layer::Etherip => "etherip",
            Layer::Srv6 => "srv6",
            Layer::Teredo => "teredo",
            Layer::Capwap => "capwap",
        }
    }
}

/// A word is not the name of a layer.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("unknown layer `{0}`; expected any, or some of {words}", words = words())]
pub struct UnknownLayer(pub String);

/// All words, one behind another: of `join` over so many constants the compiler makes work of minutes.
fn words() -> String {
    let mut words = String::new();
    for layer in Layer::ALL {
        let between = if words.is_empty() { "" } else { ", " };
        words.push_str(between);
        words.push_str(layer.word());
    }
    words
}

impl FromStr for Layer {
    type Err = UnknownLayer;

    fn from_str(word: &str) -> Result<Self, UnknownLayer> {
        Layer::ALL
            .into_iter()
            .find(|layer| layer.word() == word)
            .ok_or_else(|| UnknownLayer(word.to_owned()))
    }
}

/// Some of the kinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct LayerSet(u32);

impl LayerSet {
    /// `through any`, `strip all`: all kinds, and what has no word.
    pub const ALL: Self = Self(u32::MAX);

    pub fn with(self, layer: Layer) -> Self {
        Self(self.0 | 1 << layer as u8)
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    pub fn contains(self, layer: Layer) -> bool {
        self.0 & 1 << layer as u8 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether tags are all that is named, or nothing is.
    pub fn is_tags(self) -> bool {
        self.0 & !Self::default().with(Layer::Vlan).with(Layer::Qinq).0 == 0
    }
}

impl FromIterator<Layer> for LayerSet {
    fn from_iter<T: IntoIterator<Item = Layer>>(layers: T) -> Self {
        layers.into_iter().fold(Self::default(), Self::with)
    }
}

/// Reads `any`, or names of layers with commas between them.
impl FromStr for LayerSet {
    type Err = UnknownLayer;

    fn from_str(text: &str) -> Result<Self, UnknownLayer> {
        if text == "any" { Ok(Self::ALL) } else { text.split(',').map(str::parse).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &str) -> LayerSet {
        words.parse().unwrap()
    }

    #[test]
    fn words_name_layers_and_others_are_refused() {
        for layer in Layer::ALL {
            assert_eq!(set(layer.word()), LayerSet::default().with(layer));
            assert!(LayerSet::ALL.contains(layer));
        }
        assert_eq!(set("vlan,gre"), LayerSet::default().with(Layer::Vlan).with(Layer::Gre));
        assert_eq!("vlan,grr".parse::<LayerSet>(), Err(UnknownLayer("grr".into())));
        assert!("".parse::<LayerSet>().is_err());
    }
}
