//! Stores: captures in a folder, which rotate and are kept.

use super::Resolver;
use super::definitions::Tool;
use tapline_dpdk::clock::nanoseconds;
use tapline_lang::ast::tool::{Keep, Rotate, ToolOption, ToolTarget};
use tapline_lang::diagnostic::Diagnostic;
use tapline_lang::source::Spanned;
use tapline_store::StoreSpec;

/// Bytes of a segment where `rotate` does not say: as many as this, or a part of what is kept.
const DEFAULT_SEGMENT: u64 = 1 << 30;
const SEGMENTS_KEPT: u64 = 8;
/// Segments that `keep` has room for at the least: the one that is written, and one that is whole.
const LEAST_KEPT: u64 = 2;
/// The shortest segment.
const LEAST_SEGMENT: u64 = 64_000;
/// The shortest time of `rotate every` and of `sync`.
const LEAST_NS: u64 = 1_000_000;
/// `sync` where it is not said.
const DEFAULT_SYNC_NS: u64 = 1_000_000_000;

impl<'a> Resolver<'a> {
    /// Gives what a capture tool wishes of its store, if it has one.
    pub(super) fn store(&mut self, tool: &Tool<'a>) -> Option<StoreSpec> {
        let ToolTarget::Capture(path) = &tool.target.value else { return None };
        // of two, as of `tool modify`, the last one counts
        let last = |is: &dyn Fn(&ToolOption) -> bool| {
            tool.options.iter().copied().filter(|option| is(&option.value)).last()
        };
        let rotate = last(&|option| matches!(option, ToolOption::Rotate(_)));
        let keep = last(&|option| matches!(option, ToolOption::Keep(_)));
        let lacks = |word: &str, at: &Spanned<ToolOption>| {
            Diagnostic::error(at.span, format!("capture `{}` has no `{word}`", tool.name.value))
                .label(format!("expected `{word}`, too: a store rotates, and keeps so many bytes"))
        };
        match (rotate, keep) {
            (None, None) => {
                if self.surroundings.files.folder(path.value.as_ref()).is_ok() {
                    let message = format!("`{}` is a folder", path.value);
                    let error = Diagnostic::error(path.span, message).label("expected the path of a file");
                    self.error(error.help("a store writes to a folder: say `rotate SIZE keep SIZE`"));
                }
                None
            }
            (Some(rotate), None) => {
                self.error(lacks("keep", rotate));
                None
            }
            (None, Some(keep)) => {
                self.error(lacks("rotate", keep));
                None
            }
            (Some(rotate), Some(keep)) => {
                let (ToolOption::Rotate(rotate), ToolOption::Keep(keep)) = (&rotate.value, &keep.value)
                else {
                    return None;
                };
                let spec = self.store_spec(rotate, keep)?;
                self.check_folder(path, keep, &spec);
                Some(spec)
            }
        }
    }

    fn store_spec(&mut self, rotate: &Rotate, keep: &Keep) -> Option<StoreSpec> {
        let Keep { size, age, free, sync, group } = keep;
        let short = [("every", &rotate.every), ("sync", sync)];
        for (word, said) in short {
            if let Some(said) = said.as_ref().filter(|said| nanoseconds(said.value) < LEAST_NS) {
                let message = format!("this `{word}` is too short");
                self.error(Diagnostic::error(said.span, message).label("expected 1ms or more"));
            }
        }
        let rotate_bytes = match &rotate.size {
            Some(said) => said.value,
            None => DEFAULT_SEGMENT.min(size.value / SEGMENTS_KEPT).max(LEAST_SEGMENT),
        };
        let least = rotate_bytes.saturating_mul(LEAST_KEPT);
        if size.value < least {
            let message = "this `keep` has no room for two segments";
            let label = format!("expected {least} bytes or more, for segments of {rotate_bytes}");
            self.error(Diagnostic::error(size.span, message).label(label));
        }
        let gid = group.as_ref().and_then(|group| self.group_of_files(group));
        Some(StoreSpec {
            rotate_bytes,
            rotate_ns: rotate.every.as_ref().map(|every| nanoseconds(every.value)),
            keep_bytes: size.value,
            age_ns: age.as_ref().map(|age| nanoseconds(age.value)),
            free_percent: free.as_ref().map(|free| free.value),
            sync_ns: sync.as_ref().map_or(DEFAULT_SYNC_NS, |sync| nanoseconds(sync.value)),
            gid,
        })
    }

    fn group_of_files(&mut self, group: &Spanned<String>) -> Option<u32> {
        match (self.surroundings.names.group)(&group.value) {
            Ok(Some(gid)) => Some(gid),
            Ok(None) => {
                let message = format!("there is no group `{}`", group.value);
                self.error(
                    Diagnostic::error(group.span, message).label("expected a group of this machine"),
                );
                None
            }
            Err(error) => {
                let message = format!("whether there is a group `{}` is not known: {error}", group.value);
                self.error(Diagnostic::error(group.span, message));
                None
            }
        }
    }

    /// Refuses a folder that is not there or cannot be written, and one whose file system is too small.
    fn check_folder(&mut self, path: &Spanned<String>, keep: &Keep, spec: &StoreSpec) {
        // what the caller may not name is refused as all files are
        if self.surroundings.files.permit(path.value.as_ref()).is_err() {
            return;
        }
        let folder = match self.surroundings.files.folder(path.value.as_ref()) {
            Ok(folder) => folder,
            Err(reason) => {
                let message = format!("`{}`: {reason}", path.value);
                let label =
                    "expected a folder that can be written: make it, or give it to who runs Tapline";
                self.error(Diagnostic::error(path.span, message).label(label));
                return;
            }
        };
        let Some(total_bytes) = folder.total_bytes else { return };
        // the space of the segment that comes next is reserved beforehand
        let needed = spec.keep_bytes.saturating_add(spec.rotate_bytes);
        if needed > total_bytes {
            let message = "the file system is too small for what is to be kept";
            let label = format!("with the next segment it needs {needed} bytes, and has {total_bytes}");
            self.error(Diagnostic::error(keep.size.span, message).label(label));
        }
    }
}
