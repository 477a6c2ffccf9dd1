//! What it means that an answer ended as it did: for its client, and for what is believed about the node.

use std::time::Duration;

use crate::dialect::{Call, Ending, Framing, Meter};
use crate::error::{Fault, Kind};
use crate::gateway::client::Client;
use crate::gateway::failure::{Broken, symptom};

use super::End;

/// What a cut says about its node.
pub(super) struct Blame {
    /// Label of `upstream_errors_total`.
    pub(super) reason: &'static str,
    /// What others may know of it: not the node's words, which may repeat this client's.
    pub(super) symptom: String,
}

/// An answer that ended too early.
pub(super) struct Cut {
    /// For the client, and for its own line in the log.
    pub(super) fault: Fault,
    /// When it speaks against the node.
    pub(super) blame: Option<Blame>,
    /// The client has seen the reason in the stream already.
    told: bool,
}

impl Cut {
    /// Tells the client in its dialect, as far as the body has room for it.
    pub(super) async fn tell(
        self,
        client: &mut Client<'_>,
        call: &Call,
        framing: Framing,
        meter: &Meter,
    ) -> Fault {
        if !self.told && framing != Framing::Whole {
            let line = call.dialect.in_band(
                call.operation,
                framing,
                meter.at_frame_border(),
                &self.fault,
            );
            // If the client is gone as well there is nobody left to tell.
            let _ = client.write(line.into(), false).await;
        }
        self.fault
    }
}

/// What an end means: `None` when the answer is whole.
pub(super) fn cut(name: &str, end: &End, ending: &Ending, read_timeout: Duration) -> Option<Cut> {
    let incomplete = |why: &str| Cut {
        fault: Fault::new(Kind::NodeFailed, why),
        blame: None,
        told: false,
    };
    let failed = |reason, deed: &str| Cut {
        blame: Some(Blame {
            reason,
            symptom: symptom(deed),
        }),
        ..incomplete(&format!("node `{name}` {deed}"))
    };
    let broke_off = |how: &str| {
        let deed = format!("broke off in the middle of the answer: {how}");
        failed("mid_stream", &deed)
    };
    Some(match (end, ending) {
        // With the terminal chunk the answer is whole, whatever became of the connection behind it.
        (_, Ending::Complete) => return None,
        (End::Clean, Ending::ErrorTold(why)) => {
            let deed = "reported an error in its stream";
            let message = format!("node `{name}` {deed}: {why}");
            Cut {
                fault: Fault::new(Kind::NodeFailed, message),
                told: true,
                ..failed("told_error", deed)
            }
        }
        (End::Clean, Ending::GaveUp) => incomplete(
            "the node ended the stream without finishing the answer (Ollama does so when a model repeats itself); \
             the answer is incomplete",
        ),
        (End::Clean, Ending::Died(why)) => broke_off(why),
        (End::OutOfTime, _) => {
            incomplete("the answer took longer than proxy.response_timeout; it is incomplete")
        }
        (End::Broken(Broken::Silent), _) => {
            let limit = read_timeout.as_secs_f32();
            let deed = format!(
                "fell silent for {limit} s in the middle of the answer (proxy.read_timeout)"
            );
            failed("stalled", &deed)
        }
        (End::Broken(Broken::Cut(how)), _) => broke_off(how),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cut_says_of_a_node_is_not_in_the_nodes_words() {
        let secret = "cannot work on `my account is 8731`";
        let silence_max = Duration::from_secs(3);
        let broken = End::Broken(Broken::Cut("the connection was reset".to_owned()));
        let table = [
            (
                End::Clean,
                Ending::ErrorTold(secret.to_owned()),
                Some("it reported an error in its stream"),
            ),
            (
                End::Clean,
                Ending::Died("the node's runner stopped"),
                Some("it broke off in the middle of the answer: the node's runner stopped"),
            ),
            (
                broken,
                Ending::ErrorTold(secret.to_owned()),
                Some("it broke off in the middle of the answer: the connection was reset"),
            ),
            (End::Clean, Ending::GaveUp, None),
            (End::OutOfTime, Ending::ErrorTold(secret.to_owned()), None),
        ];
        for (end, ending, expected) in table {
            let cut = cut("gpu-1", &end, &ending, silence_max).expect("a cut");
            let symptom = cut.blame.map(|blame| blame.symptom);
            assert_eq!(symptom.as_deref(), expected, "{ending:?}");
            // Its own client and its own line in the log hear all.
            assert_eq!(cut.fault.message.contains(secret), cut.told);
        }
    }
}
