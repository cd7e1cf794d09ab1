//! `tapline run FILE`: start what the file describes, report, drain, account.

use std::cell::RefCell;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use super::change::{Pipeline, Planned, Planning, Progress, Typed};
use super::output::{print, tell, tell_line};
use super::{SourceArgs, Status, add_eal, has_place, load, signals};
use crate::broker::outputs::Locked;
use crate::broker::{self, Broker, DRAIN_LIMIT, Ending};
use crate::plan::value::{Action, Output, Plan};
use crate::report::log::{Form, Log};
use crate::report::table;
use tapline_api::event::Event;
use tapline_api::snapshot::Snapshot;
use tapline_api::words::Level;
use tapline_datapath::work_plan::{Target, Verdict};
use tapline_dpdk::clock;
use tapline_fault as fault;
use tapline_lang as lang;
use tapline_lang::ast::{Command, Show};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: SourceArgs,
    /// Further EAL arguments, as DPDK's own programs take them, such as "--no-huge -m 256"
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    eal: Option<String>,
    /// Read commands from standard input while running; `start` begins
    #[arg(short, long)]
    interactive: bool,
    /// End after this long, such as 10s
    #[arg(long, value_name = "TIME", value_parser = lang::parse_duration)]
    duration: Option<Duration>,
    /// End when no packet came for this long, such as 500ms
    #[arg(long, value_name = "TIME", value_parser = lang::parse_duration)]
    exit_idle: Option<Duration>,
    /// Write statistics as JSON lines to this file, or to standard output with -
    #[arg(long, value_name = "PATH")]
    stats: Option<PathBuf>,
    /// Time between two lines of statistics
    #[arg(long, value_name = "TIME", value_parser = lang::parse_duration, default_value = "1s")]
    interval: Duration,
    /// Time the stages of sampled bursts, and print cycles a packet at the end
    #[arg(long)]
    profile: bool,
}

/// How often the control thread looks at signals, time and typed commands.
const TICK: Duration = Duration::from_millis(5);
/// The same while a change of the plan is on its way.
const CHANGE_TICK: Duration = Duration::from_micros(500);

pub fn run(args: &Args) -> Status {
    match run_to_end(args) {
        Ok(status) | Err(status) => status,
    }
}

/// How a run ended, or an `Err` where there was none.
fn run_to_end(args: &Args) -> Result<Status, Status> {
    let is_ended = signals()?;
    let Input { pipeline, plan, stats, prompt } = Input::take(args, &is_ended)?;
    let broker = start(&plan)?;
    let is_prompted = prompt.is_some();
    let log = Log::new(Form::of_stderr(std::env::var("JOURNAL_STREAM").ok().as_deref()));
    let mut session =
        Session { args, pipeline, planning: None, broker, log, stats, is_quit: false, is_prompted };
    session.write_log();
    session.begin(&plan.actions)?;
    let ending = session.watch(prompt.as_ref(), &is_ended);
    Ok(session.end(ending))
}

/// What a run begins with.
struct Input {
    pipeline: Pipeline,
    plan: Arc<Plan>,
    stats: StatsOut,
    prompt: Option<Prompt>,
}

impl Input {
    /// Reads the file, opens what statistics go to, and takes what is typed before `start`. An `Err` ends the command.
    fn take(args: &Args, is_ended: &AtomicBool) -> Result<Self, Status> {
        let outputs =
            args.stats.iter().filter(|path| *path != Path::new("-")).map(|path| ("--stats", path.clone()));
        let (parsed, mut plan) = load(&args.source, outputs.collect(), is_ended)?;
        let mut pipeline = Pipeline::new(parsed);
        let stats = StatsOut::open(args.stats.as_deref()).map_err(|error| args.no_stats(&error))?;
        let prompt = args.interactive.then(Prompt::new).transpose().map_err(|error| {
            tell_line(format_args!(
                "error: standard input cannot be read beside the run: {error}; raise the limit of threads (ulimit -u)"
            ));
            Status::Failed
        })?;
        if let Some(prompt) = &prompt
            && !plan.actions.contains(&Action::Start)
        {
            plan = prompt.until_start(&mut pipeline, plan, is_ended).ok_or(Status::Done)?;
        }
        add_eal(&mut plan, args.eal.as_deref());
        if !has_place(pipeline.parsed(), &plan) {
            return Err(Status::Refused);
        }
        plan.run_with(args.profile, args.interactive);
        Ok(Self { pipeline, plan: Arc::new(plan), stats, prompt })
    }
}

impl Args {
    /// Tells why there are no statistics.
    fn no_stats(&self, error: &std::io::Error) -> Status {
        let path = self.stats.as_deref().unwrap_or(Path::new(""));
        tell_line(format_args!("error: {}: {error}", path.display()));
        Status::Failed
    }
}

/// Sets everything up.
fn start(plan: &Arc<Plan>) -> Result<Broker, Status> {
    broker::start(Arc::clone(plan)).map_err(|error| {
        tell_line(format_args!("error: {error}"));
        Status::Failed
    })
}

/// A broker at work, and who asked for it.
struct Session<'a> {
    args: &'a Args,
    pipeline: Pipeline,
    /// A change of the plan that is on its way.
    planning: Option<Planning>,
    broker: Broker,
    log: Log,
    stats: StatsOut,
    is_quit: bool,
    /// Somebody may yet type `start`.
    is_prompted: bool,
}

/// Since when no packet came.
struct Quiet {
    received: u64,
    /// By the time in which workers had their CPUs: one that gets none receives nothing, and is not idle for it.
    since: Duration,
}

impl Session<'_> {
    /// Does what the file asks for once everything is set up; packets are received from then on.
    fn begin(&mut self, actions: &[Action]) -> Result<(), Status> {
        self.stats.begin().map_err(|error| self.args.no_stats(&error))?;
        for action in actions {
            self.act(*action);
        }
        if !actions.contains(&Action::Start) {
            self.act(Action::Start);
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start => self.broker.resume(),
            Action::Stop => {
                if !self.broker.pause(DRAIN_LIMIT) {
                    self.broker.record(Event::CopiesWaiting {});
                }
            }
            Action::Show(what) => self.print(&show(&self.broker, what)),
            Action::ClearStats => self.broker.clear_stats(),
            Action::Quit => self.is_quit = true,
        }
    }

    fn set_drained(&mut self, tool: &str, is_drained: bool) {
        if let Err(error) = self.broker.set_drained(tool, is_drained) {
            tell_line(format_args!("error: {error}"));
        }
    }

    fn print(&self, text: &str) {
        if self.stats.is_stdout() { tell(text) } else { print(text) }
    }

    /// Until the time is up, no packet comes, a signal or `quit`. Why it ends; `None` if a worker did not stay at work.
    fn watch(&mut self, prompt: Option<&Prompt>, is_ended: &AtomicBool) -> Option<Ending> {
        let started = Instant::now();
        let mut next_stats = started + self.args.interval;
        let mut quiet = Quiet { received: 0, since: self.broker.worked() };
        while !self.is_quit && !is_ended.load(Ordering::Relaxed) {
            let now = Instant::now();
            if self.args.duration.is_some_and(|duration| now - started >= duration) {
                return Some(Ending::TimeUp);
            }
            if self.is_idle(&mut quiet) {
                return Some(Ending::Idle);
            }
            if now >= next_stats {
                next_stats = due_after(next_stats, now, self.args.interval.max(TICK));
                self.write_stats(&self.broker.snapshot());
            }
            if !self.tell_news() {
                return None;
            }
            if let Some(prompt) = prompt {
                self.obey(prompt);
            }
            std::thread::sleep(if self.planning.is_some() { CHANGE_TICK } else { TICK });
        }
        Some(Ending::Asked)
    }

    /// Returns whether no packet came for as long as `--exit-idle` says. Captures first write what they hold for the sake of its order.
    fn is_idle(&mut self, quiet: &mut Quiet) -> bool {
        let (count, worked) = (self.broker.received(), self.broker.worked());
        // one that is stopped waits to be started, as long as somebody can; a replay waits for files that take what they are given
        if count != quiet.received
            || self.is_prompted && !self.broker.is_running()
            || self.broker.is_writing()
        {
            *quiet = Quiet { received: count, since: worked };
        }
        let is_idle = self.args.exit_idle.is_some_and(|idle| worked - quiet.since >= idle);
        if is_idle && self.broker.let_go() {
            quiet.since = worked;
            return false;
        }
        is_idle
    }

    /// Has the broker look after what runs, and tells what happened. Returns whether all workers are at work.
    fn tell_news(&mut self) -> bool {
        self.broker.watch();
        let lost = self.broker.lost_workers().first().map(|lcore| lcore.0);
        if let Some(lcore) = lost {
            self.broker.record(Event::WorkerLost { lcore });
        }
        self.write_log();
        lost.is_none()
    }

    /// Writes what happened since the last time to the log.
    fn write_log(&mut self) {
        self.log.news(self.broker.events(), clock::now_ns()).iter().for_each(tell_line);
    }

    fn write_stats(&mut self, snapshot: &Snapshot) {
        if let Err(error) = self.stats.write(snapshot) {
            let path = self.stats.name.clone();
            self.broker.record(Event::StatisticsLost { path, error: error.to_string() });
        }
    }

    /// Stops the broker and tells what came of the run, which ended as [`Session::watch`] says.
    fn end(mut self, ending: Option<Ending>) -> Status {
        let ended = self.broker.stop();
        if let Some(ending) = ending {
            self.broker.judge_replays(ending);
        }
        self.write_log();
        let last = self.broker.snapshot();
        self.write_stats(&last);
        let mut report = table::summary(&last, table::When::AtEnd);
        if self.args.profile {
            report = format!("{report}\n{}", table::profile(&last));
        }
        self.print(&report);
        if let Err(error) = &ended {
            self.broker.record(Event::EndFailed { error: error.to_string() });
        }
        if !last.balanced {
            self.broker.record(Event::OutOfBalance {});
        }
        let now_ns = clock::now_ns();
        self.log.end(self.broker.events(), now_ns).iter().for_each(tell_line);
        // alarms of hours ago are why the run failed
        for alarm in self.broker.failures().iter().filter_map(Event::alarm) {
            tell_line(self.log.line(now_ns, Level::Error, &alarm.to_string()));
        }
        let is_well = ending.is_some()
            && ended.is_ok()
            && self.broker.failures().is_empty()
            && last.balanced
            && self.stats.is_whole();
        if is_well { Status::Done } else { Status::Failed }
    }

    fn obey(&mut self, prompt: &Prompt) {
        loop {
            // what is typed next is of the plan that is about to run, unless it takes the change back
            if let Some(planning) =
                self.planning.take_if(|planning| planning.is_planned() && prompt.takes_back())
            {
                tell(planning.give_up());
                prompt.show();
            }
            if self.planning.is_some() {
                self.go_on_with_change();
                if self.planning.is_some() {
                    return;
                }
                prompt.show();
            }
            match prompt.next() {
                Ok(line) => {
                    self.carry_out(&line);
                    if self.planning.is_none() {
                        prompt.show();
                    }
                }
                Err(TryRecvError::Empty) => return,
                // a script has said all it had to say: the run ends now, unless it was told when to
                Err(TryRecvError::Disconnected) => {
                    self.is_quit = self.args.duration.is_none() && self.args.exit_idle.is_none();
                    self.is_prompted = false;
                    return;
                }
            }
        }
    }

    fn carry_out(&mut self, line: &[u8]) {
        match self.pipeline.read(line) {
            Ok(Typed::Change(change)) => match change.plan_after(Arc::clone(self.broker.plan())) {
                Ok(planning) => self.planning = Some(planning),
                Err(refusal) => tell(refusal),
            },
            Ok(Typed::Others(commands)) => {
                for command in commands {
                    match (action_of(&command), &command) {
                        (Some(action), _) => self.act(action),
                        (None, Command::ToolDrain(tool)) => self.set_drained(&tool.value, true),
                        (None, Command::ToolEnable(tool)) => self.set_drained(&tool.value, false),
                        (None, _) => {}
                    }
                }
            }
            Err(refusal) => tell(refusal),
        }
    }

    /// Gives the workers a plan that is ready, and waits for them without holding up the rest.
    fn go_on_with_change(&mut self) {
        let Some(planning) = &mut self.planning else { return };
        match planning.advance(&mut self.broker, &mut self.pipeline) {
            Progress::Waits => return,
            Progress::Done => {}
            Progress::Refused(text) => tell(text),
        }
        self.planning = None;
    }
}

/// When the next line of statistics is due, where one was due at `due` and is written `now`. What went by unseen while the process
/// slept is one line.
fn due_after(due: Instant, now: Instant, interval: Duration) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos() % interval.as_nanos().max(1);
    now + interval - Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX))
}

fn action_of(command: &Command) -> Option<Action> {
    Some(match command {
        Command::Start => Action::Start,
        Command::Stop => Action::Stop,
        Command::Show(what) => Action::Show(*what),
        Command::ClearStats => Action::ClearStats,
        Command::Quit => Action::Quit,
        _ => return None,
    })
}

/// Lines typed while the broker runs.
struct Prompt {
    /// As they came: bytes that are no text are a mistake in their line, as they are in a file.
    lines: Receiver<Vec<u8>>,
    /// One that was looked at before its turn.
    ahead: RefCell<Option<Vec<u8>>>,
    is_terminal: bool,
}

/// Typed while a change is planned, gives it up.
const TAKE_BACK: &[u8] = b"cancel";

impl Prompt {
    fn new() -> std::io::Result<Self> {
        let (sender, lines) = channel();
        if fault::strikes("start.prompt") {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        // The thread ends with its input or with the process.
        std::thread::Builder::new().spawn(move || {
            for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { lines, ahead: RefCell::new(None), is_terminal: std::io::stdin().is_terminal() })
    }

    /// The next line, if it was typed yet.
    fn next(&self) -> Result<Vec<u8>, TryRecvError> {
        self.ahead.take().map_or_else(|| self.lines.try_recv(), Ok)
    }

    /// Returns whether the next line takes back the change that is planned; if so, it is done with.
    fn takes_back(&self) -> bool {
        let mut ahead = self.ahead.borrow_mut();
        if ahead.is_none() {
            *ahead = self.lines.try_recv().ok();
        }
        ahead.take_if(|line| line.trim_ascii() == TAKE_BACK).is_some()
    }

    fn show(&self) {
        if self.is_terminal {
            tell("tapline> ");
        }
    }

    /// Takes commands that add to the file's plan, until `start`. `None`: quit before.
    fn until_start(&self, pipeline: &mut Pipeline, plan: Plan, is_ended: &AtomicBool) -> Option<Plan> {
        let mut plan = plan;
        self.show();
        while !is_ended.load(Ordering::Relaxed) {
            let line = match self.next() {
                Ok(line) => line,
                Err(TryRecvError::Empty) => {
                    std::thread::sleep(TICK);
                    continue;
                }
                Err(TryRecvError::Disconnected) => return None,
            };
            match pipeline.read_freely(&line) {
                Ok(change) => match change.alone() {
                    Some(Command::Quit) => return None,
                    Some(Command::Show(what)) => print(show_plan(&plan, *what)),
                    Some(Command::Stop | Command::ClearStats) => {}
                    _ => {
                        match change.plan_first(|| is_ended.load(Ordering::Relaxed) || self.takes_back()) {
                            Ok(Planned { parsed, plan: next }) => {
                                *pipeline = Pipeline::new(parsed);
                                plan = next;
                            }
                            Err(refusal) => tell(refusal),
                        }
                    }
                },
                Err(refusal) => tell(refusal),
            }
            if plan.actions.contains(&Action::Start) {
                return Some(plan);
            }
            self.show();
        }
        None
    }
}

/// What `show` prints of a plan that is not started.
fn show_plan(plan: &Plan, what: Show) -> String {
    match what {
        Show::Filters => describe_filters(plan),
        Show::Plan => describe(plan),
        _ => "not started; `show plan` shows what would run\n".to_owned(),
    }
}

fn show(broker: &Broker, what: Show) -> String {
    let snapshot = broker.snapshot();
    match what {
        Show::Ports => table::ports(&snapshot),
        Show::Tools => table::tools(&snapshot),
        Show::Rules => table::rules(&snapshot),
        Show::Lcores => table::lcores(&snapshot),
        Show::Stats => table::summary(&snapshot, table::When::Running),
        Show::Groups => table::groups(&snapshot),
        Show::Wires => table::wires(&snapshot),
        Show::Filters => describe_filters(broker.plan()),
        Show::Plan => describe(broker.plan()),
    }
}

/// Filters that have names.
fn describe_filters(plan: &Plan) -> String {
    if plan.filters.is_empty() {
        return "no filter has a name; `show plan` shows those of rules\n".to_owned();
    }
    plan.filters.iter().map(|filter| format!("filter {}: {}\n", filter.name, filter.words)).collect()
}

/// The plan in words: ports, tools, groups, named filters and, in their order, rules.
fn describe(plan: &Plan) -> String {
    let mut out = String::new();
    for port in &plan.ports {
        out += &format!("port {}: {}\n", port.name, port.devargs);
    }
    for wire in &plan.wires {
        let [a, b] = wire.ports.map(|port| plan.ports[port].name.as_str());
        let bypass = if wire.is_bypass { " bypass" } else { "" };
        let link = if wire.propagates_link { " propagate-link" } else { "" };
        out += &format!("wire {}: ports {a},{b}{bypass}{link}\n", wire.name);
    }
    for tool in &plan.tools {
        match tool.output {
            Output::Port(port) => {
                out +=
                    &format!("tool {}: port {}, queue {}\n", tool.name, plan.ports[port].name, tool.queue)
            }
            Output::Capture => {
                let path = tool.capture.as_deref().unwrap_or(Path::new("")).display();
                out += &format!("tool {}: capture {path}, queue {}\n", tool.name, tool.queue);
            }
            Output::Discard => out += &format!("tool {}: discard\n", tool.name),
        }
    }
    for (group, work) in plan.groups.iter().zip(&plan.work.groups) {
        let members = work.members.iter().zip(&work.spec.weights);
        let words: Vec<String> =
            members.map(|(&tool, weight)| format!("{} ({weight})", plan.tools[tool].name)).collect();
        out += &format!("group {}: {}\n", group.name, words.join(", "));
    }
    if !plan.filters.is_empty() {
        out += &describe_filters(plan);
    }
    for rule in &plan.rules {
        let sources: Vec<&str> = rule.sources.iter().map(|&port| plan.ports[port].name.as_str()).collect();
        let targets = rule.targets.iter().map(|&target| match target {
            Target::Tool(tool) => plan.tools[tool].name.as_str(),
            Target::Group(group) => plan.groups[group].name.as_str(),
        });
        let words = if rule.words.is_empty() { String::new() } else { format!(" {}", rule.words) };
        let end = match rule.verdict {
            Verdict::Continue => "",
            Verdict::Final => " final",
            Verdict::Drop => " drop",
        };
        let to: Vec<&str> = targets.collect();
        let to = if to.is_empty() { String::new() } else { format!(" to {}", to.join(",")) };
        out += &format!("rule {} from {}{words}{to}{end}\n", rule.priority, sources.join(","));
    }
    out
}

/// Where statistics go. A failure to write is remembered for the exit status.
struct StatsOut {
    out: Option<Box<dyn Write>>,
    /// A regular file that is not yet begun.
    locked: Option<Locked>,
    /// As the user wrote it.
    name: String,
    is_stdout: bool,
    is_whole: bool,
}

impl StatsOut {
    fn open(path: Option<&Path>) -> std::io::Result<Self> {
        let is_stdout = path == Some(Path::new("-"));
        let locked = path.filter(|_| !is_stdout).map(Locked::take).transpose()?.flatten();
        let out: Option<Box<dyn Write>> = match path {
            None => None,
            Some(_) if is_stdout => Some(Box::new(std::io::stdout())),
            Some(_) if fault::strikes("start.statistics") => {
                return Err(std::io::ErrorKind::PermissionDenied.into());
            }
            Some(_) if locked.is_some() => None,
            Some(path) => Some(Box::new(std::fs::File::create(path)?)),
        };
        let name = path.map_or(String::new(), |path| path.display().to_string());
        Ok(Self { out, locked, name, is_stdout, is_whole: true })
    }

    /// Empties the file, now that there will be something to write.
    fn begin(&mut self) -> std::io::Result<()> {
        if let Some(locked) = self.locked.take() {
            self.out = Some(Box::new(locked.begin()?));
        }
        Ok(())
    }

    fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// # Errors
    /// The first time that it cannot be written; nothing is from then on.
    fn write(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        let written = serde_json::to_string(snapshot).map_err(std::io::Error::from).and_then(|line| {
            out.write_all(format!("{line}\n").as_bytes())?;
            out.flush()
        });
        if written.is_err() {
            self.is_whole = false;
            self.out = None;
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_which_the_process_slept_is_one_line_of_statistics() {
        let (start, interval) = (Instant::now(), Duration::from_secs(1));
        let after =
            |late_ms: u64| due_after(start, start + Duration::from_millis(late_ms), interval) - start;
        assert_eq!([0, 4, 999].map(after), [interval; 3], "the rhythm is kept, however late a line is");
        assert_eq!([1000, 12_345].map(after), [Duration::from_secs(2), Duration::from_secs(13)]);
    }
}
