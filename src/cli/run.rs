//! `tapline run FILE`: start what the file describes, report, drain, account.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use super::ctl::{RUNTIME, SOCKET};
use super::live::LiveLine;
use super::output::{has_room, print, tell, tell_line, write_apart};
use super::prompt::{Prompt, is_exit};
use super::service::Service;
use super::signals::Signals;
use super::stats_out::StatsOut;
use super::{SourceArgs, Status, has_place, load, load_text};
use crate::broker::{self, Broker, Ending};
use crate::control::bell::Bell;
use crate::control::change::Pipeline;
use crate::control::draft::Draft;
use crate::control::help;
use crate::control::lines::Line;
use crate::control::memory::Memory;
use crate::control::reload::Origin;
use crate::control::serve::Server;
use crate::control::session::{Answer, Beginning, End, Limits, Outcome, Session, Ticket};
use crate::control::socket::Socket;
use crate::plan::value::Action;
use crate::plan::{self, Plan, RunOptions};
use crate::report::log::{Form, Log};
use crate::report::table;
use tapline_api::access::Principal;
use tapline_api::request::{Reply, Request};
use tapline_api::snapshot::Snapshot;
use tapline_api::words::Level;
use tapline_dpdk::clock;
use tapline_kernel::process;
use tapline_lang as lang;
use tapline_lang::ast::session::Reload;
use tapline_lang::diagnostic::Diagnostics;

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
    /// Answer commands and requests on this Unix socket while running
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Keep tokens, the history and a plan that waits to be confirmed in this folder, which one broker has at a time
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Time the stages of sampled bursts, and print cycles a packet at the end
    #[arg(long)]
    profile: bool,
}

/// How often the control thread looks at signals, time and typed commands.
const TICK: Duration = Duration::from_millis(5);
/// The same while a change of the plan is on its way.
const CHANGE_TICK: Duration = Duration::from_micros(500);
/// How long typed lines are answered without a look at the rest.
const LINES_LIMIT: Duration = Duration::from_millis(2);

pub fn run(args: &Args) -> Status {
    match run_to_end(args) {
        Ok(status) | Err(status) => status,
    }
}

/// Returns how a run ended, or an `Err` where there was none.
fn run_to_end(args: &Args) -> Result<Status, Status> {
    // no other thread runs yet
    let mut service = Service::take();
    let signals = Signals::handle()?;
    if let Err(error) = write_apart() {
        tell_line(format_args!(
            "error: there are no threads to write on: {error}; raise the limit of threads (ulimit -u)"
        ));
        return Err(Status::Failed);
    }
    let bell = Bell::default();
    let memory = args.memory()?;
    let mut log = Log::new(Form::of_stderr(std::env::var("JOURNAL_STREAM").ok().as_deref()));
    memory.events.iter().for_each(|event| tell_line(log.ahead(event, clock::now_ns())));
    let Input { pipeline, plan, is_typed, options, stats, prompt, socket } =
        Input::take(args, &memory, &signals, &bell, &mut service)?;
    service.sets_up();
    let broker = start(&plan, options)?;
    let beginning = Beginning {
        name: args.name(),
        limits: Limits { duration: args.duration, idle: args.exit_idle },
        is_attended: prompt.is_some() || socket.is_some(),
        origin: args.origin(),
        memory,
    };
    let session = Session::new(broker, pipeline, beginning);
    let server = socket.map(Server::new);
    let mut run = Run {
        args,
        session,
        log,
        stats,
        prompt,
        script: Status::Done,
        server,
        bell,
        service,
        hangup: None,
        live: None,
    };
    run.write_log();
    if args.control.is_some() || run.service.is_there() {
        signals.reload_by_hangup();
    }
    run.begin(&plan.actions)?;
    run.service.ready(&run.session);
    if is_typed {
        run.print("started\n");
    }
    run.prompt.iter_mut().for_each(Prompt::show);
    run.live = LiveLine::on_terminal(run.prompt.is_some());
    signals.run();
    let end = run.watch(&signals);
    signals.end();
    Ok(run.end(end))
}

/// The input that a run begins with.
struct Input {
    pipeline: Pipeline,
    plan: Arc<Plan>,
    /// The last `start` was typed.
    is_typed: bool,
    options: RunOptions,
    stats: StatsOut,
    prompt: Option<Prompt>,
    socket: Option<Socket>,
}

impl Input {
    /// Reads the file, or the confirmed plan where another waited for that; takes what statistics go to, and the commands that are typed
    /// before `start`. An `Err` ends the command.
    fn take(
        args: &Args,
        memory: &Memory,
        signals: &Signals,
        bell: &Bell,
        service: &mut Service,
    ) -> Result<Self, Status> {
        let (mut parsed, plan) = match memory.confirmed() {
            Some(version) => load_text(version, args.outputs(), signals, || service.plans())?,
            None => load(&args.source, args.outputs(), signals, || service.plans())?,
        };
        // the same text from the start on as after a change; what was wrong has been told
        parsed.diagnostics = Diagnostics::default();
        plan::compact(&mut parsed, &plan);
        let stats = StatsOut::open(args.stats.as_deref()).map_err(|error| args.no_stats(&error))?;
        let socket = args.control.as_deref().map(|path| listen(path, bell.clone())).transpose()?;
        let mut prompt = args.interactive.then(|| Prompt::new(bell.clone())).transpose().map_err(|error| {
            tell_line(format_args!(
                "error: standard input cannot be read beside the run: {error}; raise the limit of threads (ulimit -u)"
            ));
            Status::Failed
        })?;
        let mut draft = Draft::new(Pipeline::new(parsed), plan);
        let is_typed = prompt.is_some() && !draft.is_started();
        if let Some(prompt) = &mut prompt {
            prompt.until_start(&mut draft, signals)?;
        }
        let (pipeline, plan) = draft.into_parts();
        let options = RunOptions {
            eal: RunOptions::eal_of(args.eal.as_deref()),
            is_profiled: args.profile,
            is_changeable: args.interactive || args.control.is_some() || service.is_there(),
        };
        if !has_place(pipeline.parsed(), plan::Run { plan: &plan, options: &options }) {
            return Err(Status::Refused);
        }
        Ok(Self { pipeline, plan: Arc::new(plan), is_typed, options, stats, prompt, socket })
    }
}

impl Args {
    /// Gives the name of the broker: the one by which `ctl -n` finds its socket, else that of its file.
    fn name(&self) -> String {
        let name = self.control.as_deref().and_then(name_of_socket);
        let name = name.unwrap_or_else(|| self.source.file.file_stem().unwrap_or_default().to_owned());
        name.to_string_lossy().into_owned()
    }

    /// Returns the text that the broker is started from.
    fn origin(&self) -> Origin {
        let path = self.source.file.clone();
        let is_regular = std::fs::metadata(&path).is_ok_and(|there| there.is_file());
        Origin { path: is_regular.then_some(path), sets: self.source.sets.clone(), outputs: self.outputs() }
    }

    /// Files that flags have written.
    fn outputs(&self) -> Vec<(&'static str, PathBuf)> {
        self.stats
            .iter()
            .filter(|path| *path != Path::new("-"))
            .map(|path| ("--stats", path.clone()))
            .collect()
    }

    /// Takes the folder of what outlives the broker, and reads what it has.
    fn memory(&self) -> Result<Memory, Status> {
        let Some(path) = self.state.as_deref() else { return Ok(Memory::default()) };
        Memory::open(path, &self.source.file).map_err(|error| {
            tell_line(format_args!("error: --state {}: {error}", path.display()));
            Status::Failed
        })
    }

    /// Tells why there are no statistics.
    fn no_stats(&self, error: &std::io::Error) -> Status {
        let path = self.stats.as_deref().unwrap_or(Path::new(""));
        tell_line(format_args!("error: {}: {error}", path.display()));
        Status::Failed
    }
}

/// Returns the NAME of a socket at /run/tapline/NAME/control.sock.
fn name_of_socket(path: &Path) -> Option<OsString> {
    let path = std::path::absolute(path).ok()?;
    let folder = path.parent().filter(|_| path.file_name().is_some_and(|name| name == SOCKET))?;
    let name = folder.file_name().filter(|_| folder.parent() == Some(Path::new(RUNTIME)))?;
    Some(name.to_owned())
}

/// Listens on the control socket.
fn listen(path: &Path, bell: Bell) -> Result<Socket, Status> {
    Socket::listen(path, bell).map_err(|error| {
        tell_line(format_args!("error: --control {}: {error}", path.display()));
        Status::Failed
    })
}

/// Sets everything up.
fn start(plan: &Arc<Plan>, options: RunOptions) -> Result<Broker, Status> {
    broker::start(Arc::clone(plan), options).map_err(|error| {
        tell_line(format_args!("error: {error}"));
        Status::Failed
    })
}

/// A session, and who asked for it.
struct Run<'a> {
    args: &'a Args,
    session: Session,
    log: Log,
    stats: StatsOut,
    prompt: Option<Prompt>,
    /// The worst that came of a script that has ended.
    script: Status,
    server: Option<Server>,
    bell: Bell,
    service: Service,
    /// A reload that a signal asked for.
    hangup: Option<Ticket>,
    live: Option<LiveLine>,
}

impl Run<'_> {
    /// Does what the file asks for; packets are received from then on.
    fn begin(&mut self, actions: &[Action]) -> Result<(), Status> {
        self.stats.begin().map_err(|error| self.args.no_stats(&error))?;
        let reply = self.session.begin(actions);
        self.show(&reply);
        Ok(())
    }

    fn print(&self, text: &str) {
        if self.stats.is_stdout() { tell(text) } else { print(text) }
    }

    /// Writes what happened since the last time to the log.
    fn write_log(&mut self) {
        self.log.news(self.session.events(), clock::now_ns()).iter().for_each(tell_line);
    }

    /// Does what signals ask for.
    fn heed(&mut self, signals: &Signals) {
        if signals.takes_tables() {
            tell(self.session.tables());
        }
        if signals.takes_reopen() || self.session.takes_reopen() {
            let told = self.stats.reopen();
            self.warn(told);
        }
        if signals.takes_reload() {
            let by = Principal::by_signal(process::own_uid());
            self.service.reloads();
            match self.session.reload(&by, Reload::default(), false) {
                Answer::Now(reply) => self.hung_up(&reply),
                Answer::Later(ticket) => self.hangup = Some(ticket),
            }
        }
    }

    /// Tells what came of a reload that a signal asked for.
    fn hung_up(&mut self, reply: &Reply) {
        // the log is read by those who sent the signal; results are not theirs
        tell(&reply.result);
        tell(&reply.remarks);
        self.service.reloaded(&self.session, reply.error.is_none());
    }

    fn warn(&mut self, text: Option<String>) {
        if let Some(text) = text {
            tell_line(self.log.line(clock::now_ns(), Level::Warning, &text));
        }
    }

    fn write_stats(&mut self, snapshot: &Snapshot) {
        // a file that was moved away is noticed without being told
        let told = self.stats.follow();
        self.warn(told);
        if let Some(event) = self.stats.write(snapshot) {
            self.session.record(event);
        }
    }

    fn show(&self, reply: &Reply) {
        self.print(&reply.result);
        tell(&reply.remarks);
    }

    /// Keeps the session's time until the run ends: its time is up, no packet comes, a signal or `quit`. Returns why.
    fn watch(&mut self, signals: &Signals) -> End {
        let mut next_stats = Instant::now() + self.args.interval;
        loop {
            signals.alive();
            if signals.is_ended() {
                return End::Ending(Ending::Asked);
            }
            let now = Instant::now();
            if now >= next_stats {
                next_stats = due_after(next_stats, now, self.args.interval.max(TICK));
                if self.stats.is_wanted() {
                    let snapshot = self.session.next_snapshot();
                    self.write_stats(&snapshot);
                }
            }
            self.heed(signals);
            let tick = self.session.tick();
            tick.progress.iter().for_each(tell_line);
            self.write_log();
            if let Some(live) = &mut self.live {
                live.look(|| self.session.snapshot());
            }
            self.service.look(&self.session);
            for (old, new) in tick.renamed {
                self.server.iter_mut().for_each(|server| server.rename(old, new));
                self.prompt.iter_mut().for_each(|prompt| prompt.rename(old, new));
            }
            for (ticket, reply) in tick.replies {
                self.server.iter_mut().for_each(|server| server.answer(ticket, &reply));
                if self.hangup.take_if(|hangup| *hangup == ticket).is_some() {
                    self.hung_up(&reply);
                }
                self.answer(ticket, &reply);
            }
            if let Some(end) = tick.end {
                return end;
            }
            self.obey();
            let mut has_more = false;
            if let Some(server) = &mut self.server {
                has_more = server.serve(&mut self.session);
                server.publish(&mut self.session);
            }
            if has_more {
                continue;
            }
            self.bell.sleep(if self.session.is_changing() { CHANGE_TICK } else { TICK });
        }
    }

    /// Prints the answer to a line of the prompt that had to wait.
    fn answer(&mut self, ticket: Ticket, reply: &Reply) {
        let Some(mut prompt) = self.prompt.take() else { return };
        if prompt.waits_for.take_if(|waiting| *waiting == ticket).is_some() {
            self.answer_now(&mut prompt, reply);
        }
        self.prompt = Some(prompt);
    }

    /// Answers the lines that were typed, each when the one before it is answered, for at most [`LINES_LIMIT`].
    fn obey(&mut self) {
        let Some(mut prompt) = self.prompt.take() else { return };
        prompt.look();
        prompt.complete(|line| self.session.complete(line));
        let until = Instant::now() + LINES_LIMIT;
        while Instant::now() < until && has_room() && !self.session.is_quit() {
            // `cancel` does not wait: it takes back the change that is planned
            if prompt.is_taken_back()
                && let Some(reply) = prompt.waits_for.and_then(|ticket| self.session.cancel(ticket))
            {
                prompt.waits_for = None;
                self.answer_now(&mut prompt, &reply);
            }
            if prompt.waits_for.is_some() {
                break;
            }
            match prompt.take() {
                Ok(Line::TooLong) => self.answer_now(&mut prompt, &Prompt::too_long()),
                Ok(Line::Whole(line)) if is_exit(&line) => return self.leave(prompt),
                Ok(Line::Whole(line)) => match help::own_answer(&line) {
                    Some(reply) => self.answer_now(&mut prompt, &reply),
                    None => match self.session.handle(&prompt.principal, Request::line(line)) {
                        Answer::Now(reply) => self.answer_now(&mut prompt, &reply),
                        Answer::Later(ticket) => prompt.waits_for = Some(ticket),
                    },
                },
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return self.leave(prompt),
            }
        }
        self.prompt = Some(prompt);
    }

    /// Prints the answer to a line; after `quit` none follows.
    fn answer_now(&self, prompt: &mut Prompt, reply: &Reply) {
        self.show(reply);
        prompt.note(reply);
        if !self.session.is_quit() {
            prompt.show();
        }
    }

    /// A script has said all it had to say, or the user leaves.
    fn leave(&mut self, prompt: Prompt) {
        self.script = prompt.status();
        // others may yet say something by the socket
        if self.server.is_none() {
            self.session.leave();
        }
    }

    /// Stops the broker and tells what came of the run, which ended as `end` says.
    fn end(mut self, end: End) -> Status {
        self.service.stops();
        self.live = None;
        // the terminal is as it was before the last words
        if let Some(prompt) = self.prompt.take() {
            self.script = prompt.status();
        }
        let Outcome { replies, last, alarms, is_well } = self.session.end(end);
        for (ticket, reply) in &replies {
            self.server.iter_mut().for_each(|server| server.answer(*ticket, reply));
        }
        self.write_stats(&last);
        let mut report = table::summary(&last, table::When::AtEnd);
        if self.args.profile {
            report = format!("{report}\n{}", table::profile(&last));
        }
        self.print(&report);
        if let Some(event) = self.stats.end() {
            self.session.record(event);
        }
        let now_ns = clock::now_ns();
        self.log.end(self.session.events(), now_ns).iter().for_each(tell_line);
        for alarm in alarms {
            tell_line(self.log.line(now_ns, Level::Error, &alarm.to_string()));
        }
        if is_well && self.stats.is_whole() { self.script } else { Status::Failed }
    }
}

/// Returns when the next line of statistics is due, where one was due at `due` and is written `now`. What went by unseen while the
/// process slept is one line.
fn due_after(due: Instant, now: Instant, interval: Duration) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos() % interval.as_nanos().max(1);
    now + interval - Duration::from_nanos(u64::try_from(late).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_called_as_ctl_finds_it() {
        let name =
            |path: &str| name_of_socket(Path::new(path)).map(|name| name.into_string().expect("text"));
        assert_eq!(name("/run/tapline/edge-1/control.sock").as_deref(), Some("edge-1"));
        assert_eq!(name("/run//tapline/./edge/control.sock").as_deref(), Some("edge"));
        for other in [
            "/run/tapline/control.sock",
            "/run/tapline/edge/other.sock",
            "/run/tapline/a/b/control.sock",
            "/run/tapline/../control.sock",
            "/tmp/tapline/edge/control.sock",
            "control.sock",
            "/",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn a_time_in_which_the_process_slept_is_one_line_of_statistics() {
        let (start, interval) = (Instant::now(), Duration::from_secs(1));
        let after =
            |late_ms: u64| due_after(start, start + Duration::from_millis(late_ms), interval) - start;
        assert_eq!([0, 4, 999].map(after), [interval; 3], "the rhythm is kept, however late a line is");
        assert_eq!([1000, 12_345].map(after), [Duration::from_secs(2), Duration::from_secs(13)]);
    }
}
