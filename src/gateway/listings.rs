//! Answers from the catalogue: what we know of the nodes, told without asking any of them.

use bytes::Bytes;

use crate::dialect::{Call, Dialect, Filter, Format, Operation, listing};
use crate::error::{Fault, Kind};
use crate::fleet::{Moment, Scope, Snapshot};
use crate::text::percent_decoded;

use super::client::Page;
use super::exchange::unknown_model;

/// The federated answer to a call that names no node.
///
/// # Errors
/// 404 for a model that nobody offers, 400 for a filter that makes no sense.
pub(super) fn page(
    call: &Call,
    query: Option<&str>,
    view: &Snapshot,
    moment: Moment,
) -> Result<Page, Fault> {
    let scope = scope(call);
    let body = match call.operation {
        Operation::Root => {
            return Ok(Page {
                content_type: "text/plain; charset=utf-8",
                body: Bytes::from_static(b"Ollama is running"),
            });
        }
        Operation::Version => view.version(),
        Operation::Ps => view.ps(&scope),
        Operation::Tags | Operation::Models => {
            let (format, filter) = wanted(call, query)?;
            match filter == Filter::default() {
                true => view.listing(&scope, format),
                false => view.filtered(&scope, format, &filter),
            }
        }
        Operation::Model => {
            let asked = call.argument.as_deref().unwrap_or_default();
            let item = view.item(&scope, Format::of(call), asked, moment);
            item.ok_or_else(|| unknown_model(asked, view))?
        }
        _ => {
            let message = "this call is not answered from the catalogue";
            return Err(Fault::new(Kind::Internal, message));
        }
    };
    Ok(Page {
        content_type: "application/json; charset=utf-8",
        body,
    })
}

/// Anthropic's mount lists what can be asked for in its dialect.
fn scope(call: &Call) -> Scope {
    let is_anthropic = call.dialect == Dialect::Anthropic;
    Scope {
        mount: call.mount.clone(),
        serves: is_anthropic.then_some(Operation::Messages),
    }
}

/// Only Olla's listing takes a shape and filters from the query; elsewhere the query is the business of nobody.
fn wanted(call: &Call, query: Option<&str>) -> Result<(Format, Filter), Fault> {
    let format = Format::of(call);
    if format != Format::Unified {
        return Ok((format, Filter::default()));
    }
    let pairs = query.unwrap_or_default().split('&');
    listing::wanted(pairs.filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((percent_decoded(name), percent_decoded(value)))
    }))
}
