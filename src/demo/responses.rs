//! OpenAI's Responses as Ollama speaks them (recordings 450 to 456, 914): every event is numbered, there is no `[DONE]`.

use super::answer::{Label, Piece, Said, Stats, Voice};
use super::anthropic::STREAM_HEADERS;
use super::clock;
use super::http::{Answer, BARE_JSON, SSE};
use super::json::quote;
use super::openai;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Reasoning,
    Message,
}

/// `/v1/responses`.
pub(super) struct Responses {
    pub label: Label,
    /// A JSON number or `null`, echoed.
    pub max_output_tokens: String,
    sequence: usize,
    open: Option<(Item, String)>,
    /// The items that are done, as JSON.
    output: Vec<String>,
}

impl Responses {
    pub(super) fn new(label: Label, max_output_tokens: Option<i64>) -> Responses {
        Responses {
            label,
            max_output_tokens: max_output_tokens.map_or("null".to_owned(), |n| n.to_string()),
            sequence: 0,
            open: None,
            output: Vec::new(),
        }
    }

    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{}", 100_000 + self.label.number % 900_000)
    }

    /// `before` and `after` are the members on both sides of `sequence_number`: keys are sorted in a stream.
    fn event(&mut self, name: &str, before: &str, after: &str, out: &mut Vec<String>) {
        let number = self.sequence;
        self.sequence += 1;
        out.push(format!(
            "event: {name}\ndata: {{{before},\"sequence_number\":{number}{after},\"type\":\"{name}\"}}\n\n"
        ));
    }

    /// The `response` object of the first two events and of the last.
    fn resource(&self, stats: Option<&Stats>) -> String {
        let created = clock::unix_s(self.label.began);
        let (completed, status) = match stats {
            Some(_) => (created.to_string(), "completed"),
            None => ("null".to_owned(), "in_progress"),
        };
        let usage = stats.map_or("null".to_owned(), |s| {
            format!(
                "{{\"input_tokens\":{},\"input_tokens_details\":{{\"cached_tokens\":0}},\"output_tokens\":{},\
                 \"output_tokens_details\":{{\"reasoning_tokens\":0}},\"total_tokens\":{}}}",
                s.tokens_in,
                s.tokens_out,
                s.tokens_in + s.tokens_out
            )
        });
        format!(
            "{{\"background\":false,\"completed_at\":{completed},\"created_at\":{created},\"error\":null,\"frequency_penalty\":0,\
             \"id\":\"{}\",\"incomplete_details\":null,\"instructions\":null,\"max_output_tokens\":{},\"max_tool_calls\":null,\
             \"metadata\":{{}},\"model\":{},\"object\":\"response\",\"output\":[{}],\"parallel_tool_calls\":true,\
             \"presence_penalty\":0,\"previous_response_id\":null,\"prompt_cache_key\":null,\"reasoning\":null,\
             \"safety_identifier\":null,\"service_tier\":\"default\",\"status\":\"{status}\",\"store\":false,\"temperature\":0,\
             \"text\":{{\"format\":{{\"type\":\"text\"}}}},\"tool_choice\":\"auto\",\"tools\":[],\"top_logprobs\":0,\"top_p\":1,\
             \"truncation\":\"disabled\",\"usage\":{usage}}}",
            self.id("resp_"),
            self.max_output_tokens,
            self.label.model,
            self.output.join(",")
        )
    }

    fn begin(&mut self, out: &mut Vec<String>) {
        if self.sequence == 0 {
            let response = format!("\"response\":{}", self.resource(None));
            self.event("response.created", &response, "", out);
            self.event("response.in_progress", &response, "", out);
        }
    }

    /// Opens an item of this kind if it is not open; adds the text to it.
    fn add(&mut self, kind: Item, text: &str, out: &mut Vec<String>) {
        if !matches!(&self.open, Some((open, _)) if *open == kind) {
            self.close(out);
            self.open = Some((kind, String::new()));
            self.open_item(kind, out);
        }
        if let Some((_, whole)) = &mut self.open {
            whole.push_str(text);
        }
        let (index, delta) = (self.output.len(), quote(text));
        match kind {
            Item::Reasoning => {
                let id = self.id("rs_");
                let before =
                    format!("\"delta\":{delta},\"item_id\":\"{id}\",\"output_index\":{index}");
                let name = "response.reasoning_summary_text.delta";
                self.event(name, &before, ",\"summary_index\":0", out);
            }
            Item::Message => {
                let id = self.id("msg_");
                let before = format!(
                    "\"content_index\":0,\"delta\":{delta},\"item_id\":\"{id}\",\"logprobs\":[],\"output_index\":{index}"
                );
                self.event("response.output_text.delta", &before, "", out);
            }
        }
    }

    fn open_item(&mut self, kind: Item, out: &mut Vec<String>) {
        let index = self.output.len();
        let item = match kind {
            Item::Reasoning => {
                format!(
                    "{{\"id\":\"{}\",\"summary\":[],\"type\":\"reasoning\"}}",
                    self.id("rs_")
                )
            }
            Item::Message => format!(
                "{{\"content\":[],\"id\":\"{}\",\"role\":\"assistant\",\"status\":\"in_progress\",\"type\":\"message\"}}",
                self.id("msg_")
            ),
        };
        let before = format!("\"item\":{item},\"output_index\":{index}");
        self.event("response.output_item.added", &before, "", out);
        if kind == Item::Message {
            let before = format!(
                "\"content_index\":0,\"item_id\":\"{}\",\"output_index\":{index},\"part\":{}",
                self.id("msg_"),
                part("")
            );
            self.event("response.content_part.added", &before, "", out);
        }
    }

    fn close(&mut self, out: &mut Vec<String>) {
        let Some((kind, text)) = self.open.take() else {
            return;
        };
        let (index, quoted) = (self.output.len(), quote(&text));
        let item = match kind {
            Item::Reasoning => {
                let id = self.id("rs_");
                let before = format!("\"item_id\":\"{id}\",\"output_index\":{index}");
                let after = format!(",\"summary_index\":0,\"text\":{quoted}");
                self.event("response.reasoning_summary_text.done", &before, &after, out);
                format!(
                    "{{\"encrypted_content\":{quoted},\"id\":\"{id}\",\"summary\":[{{\"text\":{quoted},\"type\":\"summary_text\"}}],\"type\":\"reasoning\"}}"
                )
            }
            Item::Message => {
                let id = self.id("msg_");
                let at = format!("\"content_index\":0,\"item_id\":\"{id}\"");
                let before = format!("{at},\"logprobs\":[],\"output_index\":{index}");
                let after = format!(",\"text\":{quoted}");
                self.event("response.output_text.done", &before, &after, out);
                let before = format!("{at},\"output_index\":{index},\"part\":{}", part(&text));
                self.event("response.content_part.done", &before, "", out);
                format!(
                    "{{\"content\":[{}],\"id\":\"{id}\",\"role\":\"assistant\",\"status\":\"completed\",\"type\":\"message\"}}",
                    part(&text)
                )
            }
        };
        self.item_done(item, out);
    }

    fn item_done(&mut self, item: String, out: &mut Vec<String>) {
        let before = format!("\"item\":{item},\"output_index\":{}", self.output.len());
        self.event("response.output_item.done", &before, "", out);
        self.output.push(item);
    }
}

fn part(text: &str) -> String {
    let text = quote(text);
    format!("{{\"annotations\":[],\"logprobs\":[],\"text\":{text},\"type\":\"output_text\"}}")
}

impl Voice for Responses {
    fn stream_type(&self) -> &'static str {
        SSE
    }

    fn stream_headers(&self) -> &'static [(&'static str, &'static str)] {
        STREAM_HEADERS
    }

    fn piece(&mut self, piece: &Piece, out: &mut Vec<String>) {
        self.begin(out);
        match piece {
            Piece::Thinking(t) => self.add(Item::Reasoning, t, out),
            Piece::Text(t) => self.add(Item::Message, t, out),
            Piece::Tool(call) => {
                self.close(out);
                let index = self.output.len();
                let id = self.id("fc_") + "_0";
                let (arguments, call_id) = (quote(&call.arguments), quote(&call.id));
                let item = |arguments: &str, status: &str| {
                    format!(
                        "{{\"arguments\":{arguments},\"call_id\":{call_id},\"id\":\"{id}\",\"name\":{},\"status\":\"{status}\",\"type\":\"function_call\"}}",
                        quote(&call.name)
                    )
                };
                let added = format!(
                    "\"item\":{},\"output_index\":{index}",
                    item("\"\"", "in_progress")
                );
                self.event("response.output_item.added", &added, "", out);
                let delta =
                    format!("\"delta\":{arguments},\"item_id\":\"{id}\",\"output_index\":{index}");
                self.event("response.function_call_arguments.delta", &delta, "", out);
                let done = format!(
                    "\"arguments\":{arguments},\"item_id\":\"{id}\",\"output_index\":{index}"
                );
                self.event("response.function_call_arguments.done", &done, "", out);
                self.item_done(item(&arguments, "completed"), out);
            }
        }
    }

    fn finish(&mut self, stats: &Stats, out: &mut Vec<String>) {
        self.begin(out);
        self.close(out);
        let response = format!("\"response\":{}", self.resource(Some(stats)));
        self.event("response.completed", &response, "", out);
    }

    /// The stream stops after a delta (recording 914).
    fn died(&mut self, _: &mut Vec<String>) {}

    fn whole(&self, said: &Said, stats: Option<&Stats>) -> Answer {
        let mut output = Vec::new();
        if !said.thinking.is_empty() {
            let text = quote(&said.thinking);
            output.push(format!(
                "{{\"id\":\"rs_{}\",\"type\":\"reasoning\",\"summary\":[{{\"type\":\"summary_text\",\"text\":{text}}}],\"encrypted_content\":{text}}}",
                self.id("resp_")
            ));
        }
        if let Some(call) = &said.tool {
            output.push(format!(
                "{{\"id\":\"fc_{}_0\",\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":{},\"name\":{},\"arguments\":{}}}",
                self.id("resp_"),
                quote(&call.id),
                quote(&call.name),
                quote(&call.arguments)
            ));
        } else {
            output.push(format!(
                "{{\"id\":\"{}\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{{\"type\":\"output_text\",\"text\":{},\"annotations\":[],\"logprobs\":[]}}]}}",
                self.id("msg_"),
                quote(&said.text)
            ));
        }
        let created = clock::unix_s(self.label.began);
        let (tokens_in, tokens_out) = stats.map_or((0, 0), |s| (s.tokens_in, s.tokens_out));
        let body = format!(
            "{{\"id\":\"{}\",\"object\":\"response\",\"created_at\":{created},\"completed_at\":{created},\"status\":\"completed\",\
             \"incomplete_details\":null,\"model\":{},\"previous_response_id\":null,\"instructions\":null,\"output\":[{}],\
             \"error\":null,\"tools\":[],\"tool_choice\":\"auto\",\"truncation\":\"disabled\",\"parallel_tool_calls\":true,\
             \"text\":{{\"format\":{{\"type\":\"text\"}}}},\"top_p\":1,\"presence_penalty\":0,\"frequency_penalty\":0,\"top_logprobs\":0,\
             \"temperature\":0,\"reasoning\":null,\"usage\":{{\"input_tokens\":{tokens_in},\"output_tokens\":{tokens_out},\
             \"total_tokens\":{},\"input_tokens_details\":{{\"cached_tokens\":0}},\"output_tokens_details\":{{\"reasoning_tokens\":0}}}},\
             \"max_output_tokens\":{},\"max_tool_calls\":null,\"store\":false,\"background\":false,\"service_tier\":\"default\",\
             \"metadata\":{{}},\"safety_identifier\":null,\"prompt_cache_key\":null}}\n",
            self.id("resp_"),
            self.label.model,
            output.join(","),
            tokens_in + tokens_out,
            self.max_output_tokens
        );
        Answer::new(200, BARE_JSON, body)
    }

    fn refuse(&self, status: u16, message: &str) -> Answer {
        openai::error(status, message)
    }
}
