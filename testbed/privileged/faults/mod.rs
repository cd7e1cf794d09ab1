//! Devices that fail while packets flow: every packet and every copy is accounted for in the end, to the last one.

/// Links that flap, interfaces that go, mempools used up, packets of odd sizes, 32 ports.
mod devices;
/// MTUs that change.
mod mtu;
/// What counts as sent or missed, by the kernel's count.
mod sent;
