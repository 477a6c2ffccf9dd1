//! A child process: ended when dropped, and what the kernel says it has cost.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;

/// The kernel's clock tick, which `/proc/PID/stat` counts in; 100 per second on every Linux that people run.
const TICK: Duration = Duration::from_millis(10);

/// A running child.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program whose words go into a log file.
    ///
    /// # Errors
    /// When the program or the log file cannot be opened.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Process> {
        let log = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Process { child })
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// The time that all its threads have spent on a core, in user and kernel mode.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let dir = format!("/proc/{}", self.child.id());
        match nanos_of_threads(&dir) {
            Ok(nanos) if 0 < nanos => Ok(Duration::from_nanos(nanos)),
            _ => ticks(&fs::read_to_string(format!("{dir}/stat"))?),
        }
    }

    /// Resident memory, bytes.
    ///
    /// # Errors
    /// When the process is gone.
    pub(crate) fn rss(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = kib.ok_or("/proc/PID/status has no VmRSS")?.parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only for a child that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Exact, while `stat` is good to 10 ms only; not every kernel keeps it.
fn nanos_of_threads(dir: &str) -> Result<u64> {
    let mut nanos = 0;
    for thread in fs::read_dir(format!("{dir}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let on_core = text.split_whitespace().next();
        nanos += on_core.ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(nanos)
}

/// `utime` + `stime`, the 14th and 15th field; the 2nd is a name in brackets that may hold spaces.
fn ticks(stat: &str) -> Result<Duration> {
    let (_, rest) = stat.rsplit_once(')').ok_or("a strange /proc/PID/stat")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let [user, system] = [fields.get(11), fields.get(12)];
    let user: u32 = user.ok_or("a short /proc/PID/stat")?.parse()?;
    let system: u32 = system.ok_or("a short /proc/PID/stat")?.parse()?;
    Ok(TICK * (user + system))
}
