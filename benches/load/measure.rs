//! What is measured: requests as fast as they come, requests at a fixed rate, and many streams at the pace of a GPU.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::Result;
use crate::contender::Running;
use crate::wire::Connection;

/// The model that every node has and every request names.
pub(crate) const MODEL: &str = "llama3.2";
/// The shape of a short chat: a system prompt and a question.
const PROMPT_BYTES: usize = 1000;
/// A contender that fails this often in one slice has nothing to be measured.
const FAILED_MAX: u64 = 1000;

/// A chat request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chat {
    stream: bool,
}

/// Answered with one small document.
pub(crate) const SMALL: Chat = Chat { stream: false };
/// Answered with one line per token.
pub(crate) const STREAM: Chat = Chat { stream: true };

impl Chat {
    /// The whole request as it goes over the wire.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let prompt = "tell me about the sea and the moon ".repeat(PROMPT_BYTES / 35);
        let stream = self.stream;
        let options = if stream {
            ""
        } else {
            r#""options":{"num_predict":1},"#
        };
        let body = format!(
            r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"{prompt}"}}],{options}"stream":{stream}}}"#
        );
        let length = body.len();
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }
}

/// One slice of requests as fast as they come.
pub(crate) struct Throughput {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// What the contender spent; `None` for direct.
    pub(crate) cpu: Option<Duration>,
    pub(crate) failed: u64,
}

/// Sends on each of `connections` the next request when the answer to the last one is there.
///
/// # Errors
/// When the contender is gone or fails too often.
pub(crate) async fn throughput(
    to: &Running,
    connections: usize,
    time: Duration,
) -> Result<Throughput> {
    let request: Arc<[u8]> = SMALL.bytes().into();
    let warm = warm(to, connections, &request).await?;
    let cpu_before = cpu(to)?;
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut connection in warm {
        let (request, addr) = (Arc::clone(&request), to.addr);
        tasks.spawn(async move {
            let (mut done, mut failed) = (0, 0);
            while start.elapsed() < time && failed < FAILED_MAX {
                match connection.exchange(&request, |_| ()).await {
                    Ok(200) => done += 1,
                    Ok(_) => failed += 1,
                    Err(_) => {
                        failed += 1;
                        connection = Connection::open(addr).await?;
                    }
                }
            }
            Result::Ok((done, failed))
        });
    }
    let (mut requests, mut failed) = (0, 0);
    while let Some(ended) = tasks.join_next().await {
        let (done, broken) = ended??;
        requests += done;
        failed += broken;
    }
    if requests == 0 {
        return Err("not one request was answered".into());
    }
    Ok(Throughput {
        requests,
        elapsed: start.elapsed(),
        cpu: spent(cpu_before, cpu(to)?),
        failed,
    })
}

/// One slice of requests at a fixed rate.
pub(crate) struct Latency {
    /// Sorted.
    pub(crate) samples: Vec<Duration>,
    pub(crate) failed: u64,
}

/// Sends one request per `gap`, in turn on each of `connections`, whether or not the answers keep up.
///
/// # Errors
/// When the contender is gone or answers nothing.
pub(crate) async fn latency(
    to: &Running,
    connections: u32,
    gap: Duration,
    time: Duration,
) -> Result<Latency> {
    let request: Arc<[u8]> = SMALL.bytes().into();
    let warm = warm(to, connections as usize, &request).await?;
    let start = Instant::now() + gap;
    let mut tasks = JoinSet::new();
    for (turn, mut connection) in (0..).zip(warm) {
        let (request, addr) = (Arc::clone(&request), to.addr);
        tasks.spawn(async move {
            let mut ticks = interval_at(start + gap * turn, gap * connections);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut samples, mut failed) = (Vec::new(), 0);
            let mut free_since = start;
            while free_since < start + time {
                let due = ticks.tick().await;
                // Our own timer's lateness is not the contender's; the time a request waited for its connection is.
                let from = if free_since < due {
                    Instant::now()
                } else {
                    due
                };
                match connection.exchange(&request, |_| ()).await {
                    Ok(200) => samples.push(from.elapsed()),
                    Ok(_) => failed += 1,
                    Err(_) => {
                        failed += 1;
                        connection = Connection::open(addr).await?;
                    }
                }
                free_since = Instant::now();
            }
            Result::Ok((samples, failed))
        });
    }
    let (mut samples, mut failed) = (Vec::new(), 0);
    while let Some(ended) = tasks.join_next().await {
        let (more, broken) = ended??;
        samples.extend(more);
        failed += broken;
    }
    if samples.is_empty() {
        return Err("not one request was answered".into());
    }
    samples.sort_unstable();
    Ok(Latency { samples, failed })
}

/// Connections on which one request has been answered, so that nobody pays for connecting in a measured slice.
async fn warm(to: &Running, connections: usize, request: &[u8]) -> Result<Vec<Connection>> {
    let mut warm = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut connection = Connection::open(to.addr).await?;
        connection.exchange(request, |_| ()).await?;
        warm.push(connection);
    }
    Ok(warm)
}

/// What the contender has spent so far; `None` for direct.
///
/// # Errors
/// When its process is gone.
pub(crate) fn cpu(of: &Running) -> Result<Option<Duration>> {
    of.process.as_ref().map(|process| process.cpu()).transpose()
}

pub(crate) fn spent(before: Option<Duration>, after: Option<Duration>) -> Option<Duration> {
    Some(after?.saturating_sub(before?))
}
