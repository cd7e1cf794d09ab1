//! Files that a plan reads, and folders that it writes captures to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Finding, shell_word};
use crate::plan::Run;
use crate::plan::devargs::device_files;
use tapline_kernel::disk;

/// A disk with less room than this is told of, in bytes: a minute of 100 Mbit/s fills most of it.
const LITTLE: u64 = 1 << 30;

/// Looks at the files of a plan.
pub(super) fn look(run: Option<Run<'_>>) -> Vec<Finding> {
    let Some(run) = run else { return Vec::new() };
    let (mut read, mut written) = (BTreeSet::new(), BTreeSet::new());
    for port in run.plan.ports.iter() {
        read.extend(port.replay.iter().map(|replay| PathBuf::from(&replay.path)));
        for file in device_files(&port.devargs) {
            let set = if file.is_written { &mut written } else { &mut read };
            set.insert(PathBuf::from(file.path));
        }
    }
    written.extend(run.plan.tools.iter().filter_map(|tool| tool.capture.clone()));
    let mut findings: Vec<Finding> = read.iter().filter_map(|path| of_input(path)).collect();
    let folders: BTreeSet<PathBuf> = written
        .iter()
        .filter(|path| path.metadata().map_or(true, |there| there.is_file() || there.is_dir()))
        .map(|path| folder_of(path))
        .collect();
    findings.extend(folders.iter().map(|folder| of_folder(folder)));
    findings
}

/// Returns the folder that is written to.
fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn of_input(path: &Path) -> Option<Finding> {
    let shown = path.display();
    if !path.exists() {
        return Some(Finding::gap("files", format!("there is no file `{shown}`, which a port reads")));
    }
    (!disk::may_read(path)).then(|| {
        Finding::gap("files", format!("`{shown}`, which a port reads, may not be read")).mended_by(format!(
            "setfacl -m u:{}:r {}",
            tapline_kernel::process::own_uid(),
            shell_word(path)
        ))
    })
}

fn of_folder(folder: &Path) -> Finding {
    const AREA: &str = "disk";
    let shown = folder.display();
    let word = shell_word(folder);
    if !folder.is_dir() {
        return Finding::gap(AREA, format!("there is no folder `{shown}` for captures"))
            .mended_by(format!("mkdir -p {word}"));
    }
    if !disk::may_write(folder) {
        let uid = tapline_kernel::process::own_uid();
        return Finding::gap(AREA, format!("nothing may be written to `{shown}`"))
            .mended_by(format!("chown {uid} {word}"));
    }
    match disk::space(folder) {
        Err(error) => Finding::advice(AREA, format!("`{shown}`: {error}")),
        Ok(space) => {
            let text = format!(
                "`{shown}` ({}): {} MiB of {} MiB are free",
                space.kind,
                space.free >> 20,
                space.total >> 20
            );
            if space.free < LITTLE {
                Finding::advice(AREA, format!("{text}; expected a folder with more room"))
            } else {
                Finding::fine(AREA, text)
            }
        }
    }
}
