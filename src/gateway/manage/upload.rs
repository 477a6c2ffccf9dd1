//! `/models/upload`, and what it shares with a download: a whole file goes to the nodes and becomes a model there.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures::stream::{self, Stream};
use multer::{Constraints, Multipart, SizeLimit};
use tokio::sync::mpsc;

use crate::dialect::{Call, Operation};
use crate::error::{Fault, Kind};
use crate::gateway::client::Client;
use crate::gateway::proxy::Context;

use crate::management::source::{file_name, model_name};
use crate::management::{Aim, Targets, Words, create_from_file, free_name};
use crate::telemetry::record::Phase;
use crate::text::quoted;

use super::Desk;
use super::ending::Ending;
use super::feed::Feed;
use super::spool::{FILE_BYTES_MAX, Sealed, Spool};
use super::tell;

/// Most bytes of a form around and between its files; more could be a header without an end.
const FORM_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of a form that are read before those that came are used.
const READ_AHEAD_BYTES: u64 = 256 * 1024;
/// Events that may wait for a slow client before the work waits, too.
const EVENTS_MAX: usize = 8;

/// Where a file's progress is told.
pub(super) struct Events {
    sender: mpsc::Sender<Bytes>,
    /// Hundredths of a percent.
    last: u64,
}

/// A file that is here, and what it shall be called.
pub(super) struct Named {
    pub(super) file: String,
    pub(super) sealed: Sealed,
}

impl Desk {
    pub(super) async fn upload(
        self,
        client: &mut Client<'_>,
        call: &Call,
        aim: &Aim,
        ctx: &mut Context,
    ) -> Result<(), Fault> {
        let targets = self.targets(call, Operation::Create, aim)?;
        let _room = self.gateway.jobs.file()?;
        let ids = targets.nodes.iter().map(|it| it.node).collect();
        let mut ending = Ending::of(&self, "upload of a file", ids);
        let received = Box::pin(self.receive(client)).await;
        let named = received.inspect_err(|fault| ending.failed(fault))?;
        let (mut events, told) = Events::new();
        let nodes = targets.clone();
        let work = pin!(async {
            let done = self.deliver(named, nodes, &mut events, &mut ending).await;
            done.inspect_err(|fault| ending.failed(fault))
        });
        tell_of_file(client, work, told, &targets, ctx).await
    }

    /// Reads the form to its end.
    async fn receive(&self, client: &mut Client<'_>) -> Result<Named, Fault> {
        client.invite_body().await?;
        let named = self.read_file(client).await?;
        let mut behind = 0;
        while let Some(piece) = client.next_piece(&self.config.server).await? {
            behind += piece.len() as u64;
            if FORM_BYTES_MAX < behind {
                return Err(no_form("too much stands behind its file"));
            }
        }
        Ok(named)
    }

    async fn read_file(&self, client: &mut Client<'_>) -> Result<Named, Fault> {
        let content_type = client.headers().get(http::header::CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        let boundary = multer::parse_boundary(content_type.unwrap_or_default());
        let boundary = boundary.map_err(|_| no_form("its Content-Type names no boundary"))?;
        // What was fed in and has not come out again as a file's bytes is held in memory.
        let held = AtomicU64::new(0);
        let limits = &self.config.server;
        let pieces = stream::unfold(client, |client| async {
            let piece = client.next_piece(limits).await.transpose()?;
            let grown = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if FORM_BYTES_MAX < held.fetch_add(grown, Ordering::Relaxed) + grown {
                return Some((Err(no_form("too much stands around its file")), client));
            }
            Some((piece, client))
        });
        let pieces = sparing(pieces, || READ_AHEAD_BYTES < held.load(Ordering::Relaxed));
        let limit = SizeLimit::new().whole_stream(FILE_BYTES_MAX + FORM_BYTES_MAX);
        let limits = Constraints::new().size_limit(limit);
        let mut form = Multipart::with_constraints(Box::pin(pieces), boundary, limits);
        while let Some(mut field) = form.next_field().await.map_err(unreadable)? {
            if field.name() != Some("file") {
                continue;
            }
            let file = field.file_name().and_then(file_name);
            let file = file.ok_or_else(|| no_form("its `file` has no usable name"))?;
            free_name(model_name(&file), &self.gateway.fleet.view())?;
            let mut spool = Spool::new(self.config.state_dir.as_deref()).await?;
            while let Some(piece) = field.chunk().await.map_err(unreadable)? {
                let taken = held.load(Ordering::Relaxed).min(piece.len() as u64);
                held.fetch_sub(taken, Ordering::Relaxed);
                spool.write(&piece).await?;
            }
            let sealed = spool.seal().await?;
            return Ok(Named { file, sealed });
        }
        Err(no_form("it has no part `file`"))
    }

    /// Sends a file to the nodes and makes a model of it there. Returns the last event.
    pub(super) async fn deliver(
        &self,
        named: Named,
        targets: Targets,
        events: &mut Events,
        ending: &mut Ending,
    ) -> Result<String, Fault> {
        let Named { file, mut sealed } = named;
        let (digest, total) = (format!("sha256:{}", sealed.sha256), sealed.bytes);
        let model = model_name(&file).to_owned();
        let path = format!("/api/blobs/{digest}");
        let mut lanes = self.open_lanes(&path, Some(total), targets.clone()).await;
        let mut sent = 0;
        while lanes.is_open() {
            let Some(piece) = sealed.read().await? else {
                break;
            };
            lanes.send(&piece).await;
            sent += piece.len() as u64;
            events.progress(sent, Some(total)).await;
        }
        let (outcome, _) = lanes.finish().await;
        let words = Words {
            what: format!("upload of {file}"),
            done: "it is on",
        };
        if let Some(fault) = outcome.fault(&words) {
            ending.tell(&outcome, &words);
            return Err(fault);
        }
        let plan = create_from_file(&model, &file, &digest, &targets);
        let (words, feed) = (plan.words.clone(), Arc::new(Feed::of(&plan)));
        let outcome = self.carry_out(plan, feed).await;
        ending.tell(&outcome, &words);
        if let Some(fault) = outcome.fault(&words) {
            return Err(fault);
        }
        Ok(format!(
            "{{\"done\":true,\"blob\":{},\"name\":{},\"model_created\":{}}}",
            quoted(&digest),
            quoted(&file),
            quoted(&model)
        ))
    }
}

/// The same stream, but while `is_full` it pauses before each item, so that its reader looks at what it has: multer would read a
/// quick client's whole upload before it hands out the first byte.
fn sparing<T>(
    items: impl Stream<Item = T> + Send,
    is_full: impl Fn() -> bool + Send,
) -> impl Stream<Item = T> + Send {
    let (mut items, mut paused) = (Box::pin(items), false);
    stream::poll_fn(move |cx| {
        paused = !paused && is_full();
        if paused {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        items.as_mut().poll_next(cx)
    })
}

/// Drives the work of a file and tells the client of it, as server-sent events.
///
/// # Errors
/// `ClientGone`, or why the work failed when nothing has been told yet.
pub(super) async fn tell_of_file(
    client: &mut Client<'_>,
    mut work: Pin<&mut (impl Future<Output = Result<String, Fault>> + Send)>,
    mut told: mpsc::Receiver<Bytes>,
    targets: &Targets,
    ctx: &mut Context,
) -> Result<(), Fault> {
    let nodes: Vec<String> = targets.nodes.iter().map(|it| it.name.clone()).collect();
    ctx.managed(nodes.iter().map(String::as_str));
    ctx.record.phase = Phase::Wait;
    let mut begun = false;
    let mut events = Vec::new();
    let end = loop {
        let next = {
            let next = pin!(async {
                tokio::select! {
                    biased;
                    Some(event) = told.recv() => Ok(event),
                    end = work.as_mut() => Err(end),
                }
            });
            client.unless_gone(next).await?
        };
        let end = match next {
            Ok(event) => {
                events.push(event);
                None
            }
            Err(end) => {
                events.extend(std::iter::from_fn(|| told.try_recv().ok()));
                match end {
                    // Nothing was told, so the status still can.
                    Err(fault) if !begun && events.is_empty() => return Err(fault),
                    end => Some(end),
                }
            }
        };
        if !begun {
            tell::begin(client, "text/event-stream", &nodes, ctx).await?;
            begun = true;
        }
        tell::write(client, &mut events).await?;
        if let Some(end) = end {
            break end;
        }
    };
    let (last, fault) = match end {
        Ok(last) => (last, None),
        Err(fault) => {
            let last = format!("{{\"error\":{}}}", quoted(&fault.message));
            (last, Some(fault))
        }
    };
    tell::end(client, format!("data: {last}\n\n"), fault, ctx).await
}

impl Events {
    pub(super) fn new() -> (Events, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        (Events { sender, last: 0 }, receiver)
    }

    /// Tells how far the file is, at most once for each percent or, where its length is not known, for each 16 MiB.
    pub(super) async fn progress(&mut self, completed: u64, total: Option<u64>) {
        let (step, percent) = match total {
            None => (completed >> 24, "null".to_owned()),
            Some(total) => {
                let hundredths = u128::from(completed) * 10_000 / u128::from(total.max(1));
                let hundredths = u64::try_from(hundredths).unwrap_or(10_000);
                let percent = format!("{}.{:02}", hundredths / 100, hundredths % 100);
                (hundredths / 100, percent)
            }
        };
        if step == self.last {
            return;
        }
        self.last = step;
        let total = total.map_or("null".to_owned(), |total| total.to_string());
        let event = format!(
            "data: {{\"progress\":{percent},\"completed\":{completed},\"total\":{total}}}\n\n"
        );
        let _ = self.sender.send(event.into()).await; // the client may have left
    }
}

fn no_form(why: &str) -> Fault {
    let message = format!(
        "the upload is no form with a file: {why}; send multipart/form-data with one part `file` before all others"
    );
    Fault::malformed("bad_form", message)
}

/// What went wrong below a form is not the form's fault.
fn unreadable(error: multer::Error) -> Fault {
    match error {
        multer::Error::StreamReadFailed(below) => match below.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(error) => Fault::new(Kind::Internal, format!("the upload can't be read: {error}")),
        },
        error => no_form(&error.to_string()),
    }
}
