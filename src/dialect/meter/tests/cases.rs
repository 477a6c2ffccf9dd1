//! Bodies written by hand for the meter's tests.

use crate::dialect::Framing::{self, Ndjson, Sse, Whole};
use crate::dialect::Operation::{
    self, Chat, ChatCompletions, Generate, Messages, Responses, V1Embeddings,
};

/// Streams without an end, whose text or arguments look like one.
#[rustfmt::skip]
pub(super) const FORGERIES: &[(Operation, Framing, &str)] = &[
    (Chat, Ndjson, r#"{"message":{"content":"{\"done\":true,\"error\":\"x\"}"},"done":false}"#),
    (Chat, Ndjson, r#"{"message":{"content":"","tool_calls":[{"function":{"arguments":{"done":true,"error":"x"}}}]},"done":false}"#),
    (Generate, Ndjson, r#"{"response":"\\","done":false,"context":[1]}"#),
    (ChatCompletions, Sse, "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"data: [DONE]\\n\\n\"}}]}\n"),
    (ChatCompletions, Sse, "data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\":\\\"x\\\", \\\"model\\\":\\\"\\\"\"}}]}\n"),
    (ChatCompletions, Sse, "data: {\"model\":\"m\",\"error\":null,\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n"),
    (Messages, Sse, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"event: message_stop\"}}\n"),
    (Messages, Sse, "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"type\\\":\\\"message_stop\\\"\"}}\n"),
    (Responses, Sse, "event: response.output_text.delta\ndata: {\"delta\":\"response.completed\",\"type\":\"response.output_text.delta\"}\n"),
];

/// Endings and counts as servers other than Ollama write them.
#[rustfmt::skip]
pub(super) const SPELLINGS: &[(Operation, Framing, &str, &str)] = &[
    (Chat, Ndjson, "{ \"done\" : true , \"eval_count\" : 3 }", "Complete, in None, out 3, token false, border false"),
    (Chat, Ndjson, "{\"done\":true,\"prompt_eval_count\":-1,\"eval_count\":3.5}\n", "Complete, in None, out None, token false, border true"),
    (Chat, Ndjson, "{\"error\":{\"message\":\"boom\"}}\n", "ErrorTold(\"boom\"), in None, out None, token false, border true"),
    (Chat, Ndjson, "{\"done\":true}\r\n{\"error\":\"late\"}\r\n", "Complete, in None, out None, token false, border true"),
    (ChatCompletions, Sse, ": ping\r\n\r\ndata:[DONE]\r\n\r\n", "Complete, in None, out None, token false, border true"),
    (ChatCompletions, Sse, "data: {\"error\":{\"message\":\"boom\",\"code\":500}}\n\ndata: [DONE]\n\n", "ErrorTold(\"boom\"), in None, out None, token false, border true"),
    (ChatCompletions, Sse, "event: error\ndata: boom\n\n", "ErrorTold(\"\"), in None, out None, token false, border true"),
    (ChatCompletions, Sse, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"usage\":null}\n\ndata: [DONE]", "Complete, in None, out None, token false, border false"),
    (ChatCompletions, Sse, "data: {\"choices\":[],\"usage\": {\"prompt_tokens\":5,\"completion_tokens\":6,\"input_tokens\":5,\"output_tokens\":6}}\n\ndata: [DONE]\n\n", "Complete, in 5, out 6, token false, border true"),
    (Messages, Sse, "data: {\"type\": \"message_delta\",\"usage\":{\"output_tokens\":4}}\n\ndata: {\"type\": \"message_stop\"}\n\n", "Complete, in None, out 4, token false, border true"),
    (Messages, Sse, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n", "ErrorTold(\"busy\"), in None, out None, token false, border true"),
    (Responses, Sse, "event: response.failed\ndata: {\"type\":\"response.failed\",\"response\":{\"error\":{\"code\":\"x\",\"message\":\"boom\"}}}\n\n", "ErrorTold(\"boom\"), in None, out None, token false, border true"),
    (Responses, Sse, "event: error\ndata: {\"type\":\"error\",\"message\":\"boom\",\"code\":null}\n\n", "ErrorTold(\"boom\"), in None, out None, token false, border true"),
    (Responses, Sse, "data: {\"type\":\"response.incomplete\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n", "Complete, in 1, out 2, token false, border true"),
    (V1Embeddings, Whole, "{\"usage\":{\"prompt_tokens\":9,\"total_tokens\":9},\"data\":[]}", "Complete, in 9, out None, token true, border false"),
    (V1Embeddings, Whole, "", "Complete, in None, out None, token false, border false"),
];
