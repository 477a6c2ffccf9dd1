//! Many streams at once, each at the pace of a GPU: what a token costs, what an open stream costs, and when a token arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arriero::fleet::Timestamp;
use memchr::memmem;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::contender::Running;
use crate::measure::{STREAM, cpu, spent};
use crate::wire::Connection;

/// How much of a line may wait for its end; a node's lines are far shorter.
const LINE_BYTES_MAX: usize = 4 << 10;
/// How long streams may take to give their first token, after the last of them was opened.
const FIRST_TOKENS_MAX: Duration = Duration::from_secs(10);
const FIRST_TOKENS_POLL: Duration = Duration::from_millis(5);

/// How many streams, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) streams: usize,
    /// Between two tokens of one stream.
    pub(crate) token_delay: Duration,
    /// In an answer, the terminal line not counted.
    pub(crate) tokens: usize,
    /// The streams are opened evenly over this time, so that their tokens do not come in bursts.
    pub(crate) opening: Duration,
    /// How long tokens are counted and timed, with all streams open.
    pub(crate) window: Duration,
}

impl Pace {
    /// With enough tokens that no stream ends before the window does, and half a second to spare.
    pub(crate) fn new(streams: usize, window: Duration) -> Pace {
        let token_delay = Duration::from_millis(100);
        let opening = Duration::from_millis(500);
        let lasts = opening + window + Duration::from_millis(500);
        Pace {
            streams,
            token_delay,
            tokens: (lasts.as_millis() / token_delay.as_millis()) as usize,
            opening,
            window,
        }
    }
}

/// One slice of streams.
pub(crate) struct Streams {
    /// Tokens that arrived inside the window.
    pub(crate) tokens: u64,
    /// What the contender spent inside the window; `None` for direct.
    pub(crate) cpu: Option<Duration>,
    /// Streams open at the window's end.
    pub(crate) open: usize,
    /// Resident memory at that moment, bytes.
    pub(crate) rss: Option<u64>,
    /// From the node's clock in a line to its arrival, for lines inside the window. Sorted.
    pub(crate) delays: Vec<Duration>,
    /// Streams with a missing, broken or surplus line.
    pub(crate) broken: usize,
}

/// What all streams of a slice share.
#[derive(Default)]
struct Shared {
    in_window: AtomicBool,
    tokens: AtomicU64,
    open: AtomicUsize,
}

/// Opens all streams, measures in a window in which all of them are open, and reads each to its end.
///
/// # Errors
/// When the contender is gone, or not all streams gave a token in time.
pub(crate) async fn streams(to: &Running, pace: Pace) -> Result<Streams> {
    let shared = Arc::new(Shared::default());
    let request: Arc<[u8]> = STREAM.bytes().into();
    let mut tasks = JoinSet::new();
    let count = u32::try_from(pace.streams)?;
    for place in 0..count {
        let (shared, request, addr) = (Arc::clone(&shared), Arc::clone(&request), to.addr);
        tasks.spawn(async move {
            sleep(pace.opening * place / count).await;
            let mut reader = Reader::new(shared);
            let mut connection = Connection::open(addr).await?;
            let ended = connection
                .exchange(&request, |piece| reader.push(piece))
                .await;
            Result::Ok(reader.finish(matches!(ended, Ok(200)), pace.tokens))
        });
    }
    sleep(pace.opening).await;
    all_open(&shared, pace.streams).await?;

    let (cpu_before, tokens_before) = (cpu(to)?, shared.tokens.load(Ordering::Relaxed));
    shared.in_window.store(true, Ordering::Relaxed);
    sleep(pace.window).await;
    shared.in_window.store(false, Ordering::Relaxed);
    let mut result = Streams {
        tokens: shared.tokens.load(Ordering::Relaxed) - tokens_before,
        cpu: spent(cpu_before, cpu(to)?),
        open: shared.open.load(Ordering::Relaxed),
        rss: to.process.as_ref().map(|p| p.rss()).transpose()?,
        delays: Vec::new(),
        broken: 0,
    };
    while let Some(ended) = tasks.join_next().await {
        match ended? {
            Ok(Some(delays)) => result.delays.extend(delays),
            Ok(None) | Err(_) => result.broken += 1,
        }
    }
    result.delays.sort_unstable();
    Ok(result)
}

async fn all_open(shared: &Shared, streams: usize) -> Result<()> {
    let deadline = Instant::now() + FIRST_TOKENS_MAX;
    loop {
        let open = shared.open.load(Ordering::Relaxed);
        if open == streams {
            return Ok(());
        }
        if deadline < Instant::now() {
            return Err(format!("only {open} of {streams} streams gave a token in time").into());
        }
        sleep(FIRST_TOKENS_POLL).await;
    }
}

/// One stream's lines.
struct Reader {
    shared: Arc<Shared>,
    partial: Vec<u8>,
    lines: usize,
    terminals: usize,
    is_broken: bool,
    delays: Vec<Duration>,
}

impl Reader {
    fn new(shared: Arc<Shared>) -> Reader {
        Reader {
            shared,
            partial: Vec::new(),
            lines: 0,
            terminals: 0,
            is_broken: false,
            delays: Vec::new(),
        }
    }

    fn push(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let is_whole = part.ends_with(b"\n");
            if is_whole && self.partial.is_empty() {
                self.line(part);
                continue;
            }
            self.partial.extend_from_slice(part);
            if is_whole {
                let line = std::mem::take(&mut self.partial);
                self.line(&line);
            }
            if LINE_BYTES_MAX < self.partial.len() {
                self.is_broken = true;
                self.partial.clear();
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        if self.lines == 0 {
            self.shared.open.fetch_add(1, Ordering::Relaxed);
        }
        self.lines += 1;
        self.terminals += usize::from(memmem::find(line, br#""done":true"#).is_some());
        self.shared.tokens.fetch_add(1, Ordering::Relaxed);
        match age(line) {
            Some(age) if self.shared.in_window.load(Ordering::Relaxed) => self.delays.push(age),
            Some(_) => (),
            None => self.is_broken = true,
        }
    }

    /// The delays, unless a line was lost, broken or glued to another.
    fn finish(self, clean_end: bool, tokens: usize) -> Option<Vec<Duration>> {
        if 0 < self.lines {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
        }
        let is_whole = clean_end
            && !self.is_broken
            && self.partial.is_empty()
            && self.lines == tokens + 1
            && self.terminals == 1;
        is_whole.then_some(self.delays)
    }
}

/// How long ago a node wrote this line; `None` when the line is not one whole line of an answer.
fn age(line: &[u8]) -> Option<Duration> {
    const CREATED_AT: &[u8] = br#""created_at":""#;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    if !line.starts_with(b"{") || !line.ends_with(b"}\n") {
        return None;
    }
    let at = memmem::find(line, CREATED_AT)? + CREATED_AT.len();
    let length = memchr::memchr(b'"', &line[at..])?;
    let written = Timestamp::parse(std::str::from_utf8(&line[at..at + length]).ok()?)?;
    let written = Duration::new(written.unix_s.try_into().ok()?, written.nanos);
    // The two clocks are one, but it may be set back.
    Some(now.saturating_sub(written))
}
