//! One node as a child process.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// Far above what anything here takes, also on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The node's program.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_node");

/// Between two questions, when a condition is asked for.
const PAUSE: Duration = Duration::from_millis(25);

/// A child process. Dropped, it is killed by its own id; when a test fails, what it printed is printed.
pub(crate) struct Node {
    name: String,
    child: Mutex<Child>,
    stdin: Mutex<Option<ChildStdin>>,
    output: Arc<Output>,
    tags: AtomicU64,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    seen: Vec<String>,
    /// When each of them came.
    came: Vec<Instant>,
    ended: bool,
}

impl Node {
    /// Starts a process, and does not wait for it to join.
    pub(crate) fn spawn(name: &str, flags: &[&str]) -> Self {
        Self::launch(name, Command::new(PROGRAM), flags)
    }

    /// Starts a process by a command that runs [`PROGRAM`], and adds the flags to it.
    pub(crate) fn launch(name: &str, mut command: Command, flags: &[&str]) -> Self {
        let mut child = command
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the node's program starts");
        let output = Arc::<Output>::default();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        collect(stdout, Arc::clone(&output), "", true);
        collect(stderr, Arc::clone(&output), "stderr: ", false);
        let stdin = Mutex::new(child.stdin.take());
        let name = format!("{name}, {flags:?}");
        Self { name, child: Mutex::new(child), stdin, output, tags: AtomicU64::new(1) }
    }

    /// Starts a process that joins.
    pub(crate) fn start(name: &str, flags: &[&str]) -> Self {
        let node = Self::spawn(name, flags);
        drop(node.address());
        node
    }

    /// Where it listens; waits until it has joined.
    pub(crate) fn address(&self) -> String {
        self.started().0
    }

    /// Its member id; waits until it has joined.
    pub(crate) fn id(&self) -> String {
        self.started().1
    }

    fn started(&self) -> (String, String) {
        self.line("it has joined", |line| {
            assert!(!line.starts_with("* failed"), "{} {line}", self.name);
            let (address, id) = line.strip_prefix("* started ")?.split_once(' ')?;
            Some((address.to_owned(), id.to_owned()))
        })
    }

    /// Why it did not start; waits until it says so.
    pub(crate) fn failure(&self) -> String {
        self.line("it has failed to start", |line| {
            assert!(!line.starts_with("* started"), "{} {line}", self.name);
            line.strip_prefix("* failed ").map(str::to_owned)
        })
    }

    /// Gives a command and waits for its answer.
    pub(crate) fn ask(&self, command: &str) -> Result<String, String> {
        let tag = self.begin(command);
        self.answer(&tag)
    }

    /// Gives a command. [`answer`](Self::answer) waits for its answer.
    pub(crate) fn begin(&self, command: &str) -> String {
        let tag = self.tags.fetch_add(1, Ordering::Relaxed).to_string();
        let mut stdin = self.stdin.lock().unwrap();
        writeln!(stdin.as_mut().expect("its stdin is open"), "{tag} {command}").expect("it takes commands");
        tag
    }

    /// The answer to a command.
    pub(crate) fn answer(&self, tag: &str) -> Result<String, String> {
        self.line(&format!("it answers command {tag}"), |line| {
            let (found, answer) = line.split_once(' ')?;
            let (word, text) = answer.split_once(' ')?;
            (found == tag).then(|| if word == "ok" { Ok(text.to_owned()) } else { Err(text.to_owned()) })
        })
    }

    /// Asks again and again until the answer is as it should be, and returns that one.
    pub(crate) fn eventually(&self, command: &str, condition: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(command);
            match answer {
                Ok(answer) if condition(&answer) => return answer,
                other if Instant::now() > deadline => panic!("{}: {command} still says {other:?}", self.name),
                _ => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Waits until it has told of an event that begins so, and returns the rest of that line.
    pub(crate) fn event(&self, beginning: &str) -> String {
        let beginning = format!("* event {beginning}");
        self.line(&beginning, |line| line.strip_prefix(&beginning).map(str::to_owned))
    }

    /// All that it has told so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.output.lines.lock().unwrap().seen.clone()
    }

    /// All that it has told so far, and when each line came.
    #[allow(dead_code, reason = "the tests on hosts of their own need it")]
    pub(crate) fn timed_lines(&self) -> Vec<(Instant, String)> {
        let lines = self.output.lines.lock().unwrap();
        lines.came.iter().copied().zip(lines.seen.iter().cloned()).collect()
    }

    /// The first line for which `pick` has a value, past or future.
    pub(crate) fn line<T>(&self, what: &str, mut pick: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.output.lines.lock().unwrap();
        let mut looked_at = 0;
        loop {
            if let Some(found) = lines.seen[looked_at..].iter().find_map(|line| pick(line)) {
                return found;
            }
            looked_at = lines.seen.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                let why = if lines.ended { "it has ended" } else { "the time is up" };
                drop(lines); // it is read again when this node is dropped
                panic!("{}: waited for: {what}; {why}", self.name);
            }
            lines = self.output.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// `kill -9`: without a goodbye, but the system closes its sockets.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }

    /// Closes its stdin, which ends it, and waits for that.
    pub(crate) fn close(&self) -> ExitStatus {
        drop(self.stdin.lock().unwrap().take());
        self.line_or_end();
        self.child.lock().unwrap().wait().expect("it ends")
    }

    fn line_or_end(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.output.lines.lock().unwrap();
        while !lines.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(lines);
                panic!("{}: it did not end with its stdin", self.name);
            }
            lines = self.output.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Sends it a signal, by name.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.lock().unwrap().id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().expect("there is a kill program");
        assert!(sent.success(), "{} took no {signal}", self.name);
    }

    /// The most memory that it has held at a time, in bytes, where the system tells.
    pub(crate) fn peak_memory(&self) -> Option<usize> {
        let id = self.child.lock().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(peak.trim().strip_suffix(" kB")?.parse::<usize>().ok()? * 1024)
    }

    /// Whether the process still runs.
    pub(crate) fn runs(&self) -> bool {
        self.child.lock().unwrap().try_wait().expect("it can be asked").is_none()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        // It may have ended already.
        drop(child.kill());
        drop(child.wait());
        if std::thread::panicking() {
            let lines = self.output.lines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            eprintln!("--- {}\n{}", self.name, lines.seen.join("\n"));
        }
    }
}

fn collect(from: impl Read + Send + 'static, output: Arc<Output>, prefix: &'static str, is_last: bool) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut lines = output.lines.lock().unwrap();
            lines.seen.push(format!("{prefix}{line}"));
            lines.came.push(Instant::now());
            drop(lines);
            output.changed.notify_all();
        }
        if is_last {
            output.lines.lock().unwrap().ended = true;
            output.changed.notify_all();
        }
    });
}

/// An address of this machine that nobody listens on. Its port is below those that the system gives away by itself, so
/// that nobody else takes it before the test does.
pub(crate) fn free_address() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 200) as u16 * 100;
    loop {
        let address = format!("127.0.0.1:{}", 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
        if is_free(&address) {
            return address;
        }
    }
}

/// Whether nobody listens there. Asked by connecting: a listener of our own, bound for a moment, would live on in a
/// child that another test starts in that moment, and the port would be taken when it is needed.
pub(crate) fn is_free(address: &str) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
