//! Says what this machine, or a plan on it, lacks, and the command that mends it.
//!
//! Nothing is started and nothing is changed. Files of the kernel are read below `Roots`, so that a test shows another machine.
//! # Source
//! proc(5), sysfs(5); Linux, Documentation/admin-guide/mm/hugetlbpage.rst and Documentation/ABI/testing/sysfs-bus-pci; DPDK, "System
//! Requirements" and "Linux Drivers" of the Getting Started Guide.

/// CPUs: isolation, governors, and the workers' places.
mod cpus;
/// Files and folders that a plan reads and writes.
mod disk;
/// Interfaces of the kernel, and offloads that change their frames.
mod interfaces;
/// Huge pages and ordinary memory.
mod memory;
/// NICs, their drivers and the IOMMU.
mod nics;
/// Drivers of DPDK that are installed.
mod pmds;
/// Capabilities of this process.
mod rights;
/// The system's clock and clocks of NICs.
mod time;

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::plan::{Run, shell_word};

/// The folders that the machine is read from.
#[derive(Clone, Debug)]
pub struct Roots {
    /// The folder in which `proc`, `sys` and `dev` are.
    pub root: PathBuf,
    /// The folder of DPDK's drivers.
    pub pmds: PathBuf,
}

impl Roots {
    /// Returns those of this machine.
    pub fn system() -> Self {
        Self { root: PathBuf::from("/"), pmds: PathBuf::from(tapline_dpdk::eal::pmd_folder()) }
    }

    /// Reads a short file without the white space around it; `None` where it cannot be read.
    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok().map(|text| text.trim().to_owned())
    }

    /// Gives the names in a folder, sorted; none where it cannot be read.
    fn names(&self, path: &str) -> Vec<String> {
        names_in(&self.root.join(path))
    }
}

/// Gives the names in a folder, sorted; none where it cannot be read.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// How much a finding matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// It is as it should be, or only a fact.
    Fine,
    /// Packets flow without it, but fewer, later, or less exactly.
    Advice,
    /// The plan, or the program, does not run without it.
    Gap,
}

impl Level {
    /// Returns its word in text and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Level::Fine => "ok",
            Level::Advice => "advice",
            Level::Gap => "gap",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The part of the machine: `huge pages`, `nics`.
    pub area: &'static str,
    pub level: Level,
    pub text: String,
    /// The line for a shell that mends it.
    pub command: Option<String>,
}

impl Finding {
    fn fine(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Fine, text: text.into(), command: None }
    }

    fn advice(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Advice, text: text.into(), command: None }
    }

    fn gap(area: &'static str, text: impl Into<String>) -> Self {
        Self { area, level: Level::Gap, text: text.into(), command: None }
    }

    fn mended_by(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The pipeline file that was asked about.
    pub file: Option<PathBuf>,
    pub findings: Vec<Finding>,
}

/// Looks at a machine, and at what a plan needs of it.
pub fn examine(roots: &Roots, file: Option<&Path>, run: Option<Run<'_>>) -> Report {
    let pmds = pmds::Pmds::read(roots, run);
    let findings = [
        memory::look(roots, run),
        cpus::look(roots, run),
        nics::look(roots, run, &pmds),
        pmds.look(run),
        rights::look(roots, run),
        interfaces::look(run),
        time::look(roots),
        disk::look(run),
    ];
    Report { file: file.map(Path::to_owned), findings: findings.concat() }
}

impl Report {
    /// Returns how many findings are of a level.
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.level == level).count()
    }

    /// Returns whether nothing keeps the plan, or the program, from running.
    pub fn is_ready(&self) -> bool {
        self.count(Level::Gap) == 0
    }

    /// Returns `tapline.doctor/1`.
    pub fn json(&self, now_ns: u64) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({
                    "area": finding.area,
                    "level": finding.level.word(),
                    "text": finding.text,
                    "command": finding.command,
                })
            })
            .collect();
        json!({
            "schema": "tapline.doctor/1",
            "time": now_ns,
            "file": self.file.as_ref().map(|file| file.display().to_string()),
            "ready": self.is_ready(),
            "gaps": self.count(Level::Gap),
            "advice": self.count(Level::Advice),
            "findings": findings,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { area, level, text, command } in &self.findings {
            writeln!(f, "{area:<10}  {:<6}  {text}", level.word())?;
            if let Some(command) = command {
                writeln!(f, "{:20}mend: {command}", "")?;
            }
        }
        let mut verdict = match &self.file {
            Some(file) => file.display().to_string(),
            None => "this machine".to_owned(),
        };
        let gaps = self.count(Level::Gap);
        match gaps {
            0 => verdict.push_str(": ready"),
            _ => write!(verdict, ": {gaps} gap{}", if gaps == 1 { "" } else { "s" })?,
        }
        match self.count(Level::Advice) {
            0 => writeln!(f, "{verdict}"),
            1 => writeln!(f, "{verdict}, 1 piece of advice"),
            count => writeln!(f, "{verdict}, {count} pieces of advice"),
        }
    }
}
