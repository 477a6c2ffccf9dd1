//! What the gateway knows of itself: its build, its machine, and what the kernel tells of its process.

use std::fs;
use std::thread::available_parallelism;

use crate::admin::{About, ProcessFiles};
use crate::profile::Profiles;

use super::Gateway;

impl Gateway {
    /// Itself, as the status pages tell of it.
    pub(super) fn about(&self) -> About {
        let config = self.config();
        let connections = self.metrics.connections.open.get();
        About {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("ARRIERO_BUILD_COMMIT").unwrap_or("none"),
            build_date: option_env!("ARRIERO_BUILD_DATE").unwrap_or(""),
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            started_ms: self.started_ms,
            balancer: config.proxy.balancer.word(),
            backends: backends(&config.profiles),
            connections: u64::try_from(connections).unwrap_or(0),
            requests: self.lifecycle.in_flight() as u64,
            cpus: available_parallelism().map_or(1, usize::from),
            threads: config.server.threads,
            pid: std::process::id(),
        }
    }
}

/// Words that `type:` takes, one for each node type.
fn backends(profiles: &Profiles) -> Vec<String> {
    profiles
        .iter()
        .map(|profile| profile.name.to_string())
        .collect()
}

/// The kernel makes these files as they are read, so reading them waits for no disk.
pub(super) fn process_files() -> ProcessFiles {
    let read = |path| fs::read_to_string(path).ok();
    ProcessFiles {
        status: read("/proc/self/status"),
        meminfo: read("/proc/meminfo"),
        memory_max: read("/sys/fs/cgroup/memory.max"),
    }
}
