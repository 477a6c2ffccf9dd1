//! Where the configuration comes from, and when it is read again: the file changed, SIGHUP, or an operator asked for it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::config::Config;

use super::Gateway;

/// How long files must be left alone before they are read: an editor writes more than once, a ConfigMap swaps several links.
const CALM: Duration = Duration::from_millis(300);
/// How long that is waited for: in a directory that is written to all the time it never comes.
const CALM_MAX: Duration = Duration::from_secs(3);
/// Files are looked at this often besides: some file systems tell of no change.
const LOOK: Duration = Duration::from_secs(60);

/// A configuration and the files it was read from.
pub struct Reading {
    /// What it says, or what is wrong with it, for people.
    pub config: Result<Config, String>,
    /// All files and directories that had a say, or were missing: the configuration, profiles, keys, certificates.
    pub files: Vec<PathBuf>,
}

/// Reads the configuration again.
pub type Read = Box<dyn Fn() -> Reading + Send + Sync>;

/// Where the configuration comes from.
pub struct Origin {
    read: Read,
    /// As they were when they were read last.
    seen: Mutex<Seen>,
}

struct Seen {
    files: Vec<PathBuf>,
    print: u64,
}

impl Origin {
    /// `files`: those that the configuration in force was read from.
    pub fn new(read: Read, files: Vec<PathBuf>) -> Origin {
        let print = fingerprint(&files);
        Origin {
            read,
            seen: Mutex::new(Seen { files, print }),
        }
    }

    fn has_changed(&self) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        fingerprint(&seen.files) != seen.print
    }

    fn directories(&self) -> Vec<PathBuf> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut directories: Vec<PathBuf> = seen.files.iter().map(|file| directory(file)).collect();
        directories.sort();
        directories.dedup();
        directories
    }
}

impl Gateway {
    /// Reads the configuration again and puts it in force, all or nothing. Blocks for as long as reading files takes.
    ///
    /// # Errors
    /// What is wrong, for people; the configuration before stays in force.
    pub fn reload_from(&self, origin: &Origin) -> Result<(), String> {
        // Held to the end, so that what was read first is not put in force last.
        let mut seen = origin.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = fingerprint(&seen.files);
        let Reading { config, mut files } = (origin.read)();
        let was_quiet = before == fingerprint(&seen.files);
        let done = config.and_then(|config| self.reload(config).map_err(|fault| fault.message));
        if done.is_err() {
            // What was missing may come, and what is in force may come back.
            files.extend_from_slice(&seen.files);
            files.sort();
            files.dedup();
        }
        let print = fingerprint(&files);
        // Who wrote meanwhile was perhaps read half: it is looked at once more.
        seen.print = if was_quiet { print } else { !print };
        seen.files = files;
        let reloads = &self.metrics.reloads;
        match &done {
            Ok(()) => {
                log::info!("the configuration was read again and is in force");
                reloads.ended.with_label_values(&["done"]).inc();
            }
            Err(why) => {
                log::error!(
                    "the new configuration is refused, the one before stays in force: {why}"
                );
                reloads.ended.with_label_values(&["refused"]).inc();
            }
        }
        reloads.last_ok.set(i64::from(done.is_ok()));
        done
    }
}

/// The background service that reads the configuration again when there is reason to.
pub(super) struct Reloads {
    pub(super) gateway: Arc<Gateway>,
    pub(super) origin: Arc<Origin>,
}

#[async_trait]
impl BackgroundService for Reloads {
    async fn start(&self, shutdown: ShutdownWatch) {
        self.run(shutdown).await;
    }
}

impl Reloads {
    async fn run(&self, mut shutdown: ShutdownWatch) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => hangups,
            Err(error) => return log::error!("SIGHUP can't be listened for: {error}"),
        };
        let touched = Arc::new(Notify::new());
        loop {
            // Made anew each time, since a reload may name other files.
            let _watcher = watch(&self.origin.directories(), &touched).inspect_err(|error| {
                log::warn!(
                    "the configuration's files can't be watched ({error}); SIGHUP and POST /internal/reload still work"
                );
            });
            // Looked at once the watcher stands, or a change just before would be missed.
            if self.origin.has_changed() {
                let _ = self.gateway.reload_from(&self.origin); // the log tells how it went
                sleep(CALM).await; // one that changes without end is not read without end
                continue;
            }
            tokio::select! {
                _ = shutdown.wait_for(|stopping| *stopping) => return,
                _ = hangups.recv() => {
                    let _ = self.gateway.reload_from(&self.origin);
                }
                () = self.calm_after(&touched) => (),
            }
        }
    }

    /// Resolves some time after the last of a row of changes, and in a directory that is never calm all the same.
    async fn calm_after(&self, touched: &Notify) {
        tokio::select! {
            () = touched.notified() => (),
            () = sleep(LOOK) => return,
        }
        let calm = async { while timeout(CALM, touched.notified()).await.is_ok() {} };
        let _ = timeout(CALM_MAX, calm).await;
    }
}

/// Watches directories rather than files: a file that is replaced by renaming, as editors and Kubernetes do it, is another file.
fn watch(directories: &[PathBuf], touched: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let touched = touched.clone();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading a file is an event too, and must not look like a change of it.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            touched.notify_one();
        }
    })?;
    for directory in directories {
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}

fn directory(file: &Path) -> PathBuf {
    if file.is_dir() {
        return file.to_owned();
    }
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// What files hold and which files directories hold. A file that cannot be read counts as empty: reading it will tell.
fn fingerprint(files: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files {
        match std::fs::read_dir(file) {
            Ok(entries) => {
                let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
                names.sort();
                names.hash(&mut hasher);
            }
            Err(_) => std::fs::read(file).unwrap_or_default().hash(&mut hasher),
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_follows_what_files_hold_and_which_there_are() {
        let directory = std::env::temp_dir().join(format!("arriero-origin-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("a.yaml");
        let files = [file.clone(), directory.clone()];
        let absent = fingerprint(&files);
        std::fs::write(&file, "one").unwrap();
        let one = fingerprint(&files);
        std::fs::write(&file, "two").unwrap();
        let two = fingerprint(&files);
        std::fs::write(directory.join("b.yaml"), "").unwrap();
        let more = fingerprint(&files);
        std::fs::write(&file, "one").unwrap();
        std::fs::remove_file(directory.join("b.yaml")).unwrap();
        assert_eq!(fingerprint(&files), one);
        assert!(absent != one && one != two && two != more);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
