//! `/internal/process` and `/version`: what runs here, and what it needs of its machine.

use serde_json::{Value, json};

use super::human;
use super::{About, State};

/// What Linux tells of a process, as its files say it; `None` where there are no such files.
#[derive(Debug, Default)]
pub struct ProcessFiles {
    /// `/proc/self/status`.
    pub status: Option<String>,
    /// `/proc/meminfo`.
    pub meminfo: Option<String>,
    /// `/sys/fs/cgroup/memory.max`: bytes, or `max`.
    pub memory_max: Option<String>,
}

impl ProcessFiles {
    /// A line `Name:  123 kB` of the status file, in bytes.
    fn bytes(&self, name: &str) -> Option<u64> {
        kilobytes(self.status.as_deref()?, name)
    }

    fn threads(&self) -> Option<u64> {
        field(self.status.as_deref()?, "Threads")?.parse().ok()
    }

    /// What the process may have, at most what the machine has.
    fn memory_limit(&self) -> Option<u64> {
        let machine = kilobytes(self.meminfo.as_deref()?, "MemTotal")?;
        let group = self.memory_max.as_deref();
        let group = group.and_then(|text| text.trim().parse().ok());
        Some(machine.min(group.unwrap_or(u64::MAX)))
    }

    /// How much of its memory limit the process has, in a word; empty where that is not known.
    fn pressure(&self) -> &'static str {
        let share = self
            .bytes("VmRSS")
            .zip(self.memory_limit())
            .map(|(used, limit)| used.saturating_mul(100) / limit.max(1));
        match share {
            None => "",
            Some(..50) => "low",
            Some(50..80) => "medium",
            Some(80..) => "high",
        }
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(known, value)| (known == name).then(|| value.trim()))
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let number = field(text, name)?.strip_suffix("kB")?.trim();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// `/internal/process`. Olla's names for what a Go program has stand for what is nearest to it here.
pub(super) fn page(state: &State<'_>, files: &ProcessFiles) -> Value {
    let about = (state.about)();
    let text = |count: Option<u64>| count.map_or_else(String::new, human::bytes);
    let (anonymous, stack) = (files.bytes("RssAnon"), files.bytes("VmStk"));
    let (resident, peak) = (files.bytes("VmRSS"), files.bytes("VmHWM"));
    json!({
        "timestamp": state.now.timestamp(),
        "memory": {
            "heap_alloc": text(anonymous),
            "heap_sys": text(resident),
            "heap_inuse": text(anonymous),
            "heap_released": text(peak.zip(resident).map(|(most, now)| most.saturating_sub(now))),
            "stack_inuse": text(stack),
            "total_alloc": text(peak),
            "memory_pressure": files.pressure(),
            "rss_bytes": resident,
            "rss_peak_bytes": peak,
            "rss_anonymous_bytes": anonymous,
            "data_bytes": files.bytes("VmData"),
            "stack_bytes": stack,
            "virtual_bytes": files.bytes("VmSize"),
            "limit_bytes": files.memory_limit(),
        },
        // Nothing here collects garbage.
        "garbage_collection": {
            "last_gc": "never",
            "total_gc_time": "0ms",
            "avg_gc_pause": "0ms",
            "gc_cpu_fraction": 0.0,
            "num_gc_cycles": 0,
        },
        "goroutines": {
            "health_status": "healthy",
            "count": files.threads().unwrap_or_default(),
            "cgo_calls": 0,
        },
        "runtime": {
            "uptime": human::duration(state.now.uptime),
            "uptime_s": state.now.uptime.as_secs(),
            "go_version": "",
            "num_cpu": about.cpus,
            "gomaxprocs": about.threads,
            "threads": files.threads(),
            "pid": about.pid,
        },
        // The allocator does not count single allocations.
        "allocations": { "total_mallocs": 0, "total_frees": 0, "net_objects": 0 },
        "build": build(&about),
    })
}

fn build(about: &About) -> Value {
    json!({
        "version": about.version,
        "commit": about.commit,
        "date": about.build_date,
        "go_version": "",
        "platform": about.platform,
    })
}

/// `/version`.
pub(super) fn version(about: &About) -> Value {
    json!({
        "name": "Arriero",
        "version": about.version,
        "edition": "Community",
        "description": "One address for a herd of Ollama nodes: a gateway on Cloudflare's Pingora",
        "api": {
            "version": "v1",
            "endpoints": {
                "health": "/internal/health",
                "metrics": "/internal/metrics",
                "process": "/internal/process",
                "status": "/internal/status",
                "version": "/version",
            },
        },
        "links": { "documentation": "", "homepage": "", "releases": "" },
        "build": build(about),
        "capabilities": [
            "load_balancing",
            "health_checking",
            "model_unification",
            "endpoint_discovery",
            "passthrough_anthropic",
        ],
        "capabilities_experimental": [],
        "supported_backends": about.backends,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(rss_kb: u64, memory_max: &str) -> ProcessFiles {
        ProcessFiles {
            status: Some(format!(
                "Name:\tarriero\nVmRSS:\t  {rss_kb} kB\nThreads:\t7\n"
            )),
            meminfo: Some("MemTotal:       1000 kB\nMemFree: 1 kB\n".into()),
            memory_max: Some(memory_max.into()),
        }
    }

    #[test]
    fn what_the_kernel_writes_is_read() {
        let cases = [
            (499, "max\n", "low"),
            (500, "max\n", "medium"),
            (800, "max\n", "high"),
            (100, "102400\n", "high"),
            (100, "nonsense", "low"),
        ];
        for (rss_kb, memory_max, pressure) in cases {
            let files = files(rss_kb, memory_max);
            assert_eq!(files.bytes("VmRSS"), Some(rss_kb * 1024));
            assert_eq!(files.threads(), Some(7));
            assert_eq!(files.pressure(), pressure, "{rss_kb} {memory_max}");
        }
        let none = ProcessFiles::default();
        assert_eq!((none.bytes("VmRSS"), none.pressure()), (None, ""));
    }
}
