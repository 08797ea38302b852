//! A second process of the same program, and the lines that it prints.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::Failure;

/// Far above what anything in an example takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// The other process. It never outlives this one: it ends when its stdin does, and is killed when this is dropped.
pub(crate) struct Other {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    /// Starts this program once more, with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let (stdin, stdout) = stdin.zip(stdout).ok_or("a child without pipes")?;
        Ok(Self { process, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// Prints what it prints, until a line contains `text`; returns that line.
    pub(crate) async fn says(&mut self, text: &str) -> Result<String, Failure> {
        let wait = async {
            while let Some(line) = self.lines.next_line().await? {
                println!("    other process | {line}");
                if line.contains(text) {
                    return Ok(line);
                }
            }
            Err(format!("the other process ended before it said {text:?}").into())
        };
        tokio::time::timeout(PATIENCE, wait).await.map_err(|_| format!("the other process never said {text:?}"))?
    }

    /// Closes its stdin, which asks it to end, prints the rest of what it prints, and expects that all went well there.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        let Self { mut process, stdin, mut lines } = self;
        drop(stdin);
        while let Some(line) = lines.next_line().await? {
            println!("    other process | {line}");
        }
        let status = tokio::time::timeout(PATIENCE, process.wait()).await.map_err(|_| "the other process hangs")??;
        if status.success() { Ok(()) } else { Err(format!("the other process failed: {status}").into()) }
    }
}

/// Waits for the end of stdin, or for Ctrl-C.
pub(crate) async fn until_told_to_end() {
    // A thread of its own, for which the end of the program does not wait.
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    tokio::select! {
        _ = end => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
