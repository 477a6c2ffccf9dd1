//! A name server whose zone and manners a test changes on cue, over UDP and TCP on one port of 127.0.0.1.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;

use super::spawn;

const A: u16 = 1;
const AAAA: u16 = 28;
const CNAME: u16 = 5;
const NXDOMAIN: u8 = 3;
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const REFUSED: u8 = 5;
/// What fits into a UDP answer when the question does and does not carry EDNS.
const UDP_BYTES: [usize; 2] = [512, 1232];

/// How the server treats one kind of question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// What the zone says: its records, an empty answer, or NXDOMAIN.
    #[default]
    Honest,
    /// Nothing but this response code.
    Code(u8),
    Silent,
    /// The right id, then bytes that are no DNS message.
    Garbage,
    /// An answer with another id and an address of the forger's comes first, the true one after it.
    Forged,
    /// The name is an alias of itself.
    Circular,
}

/// A running server; it ends with the test.
pub(crate) struct NameServer {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: [JoinHandle<()>; 2],
}

#[derive(Default)]
struct State {
    zone: HashMap<String, Vec<IpAddr>>,
    manners: HashMap<u16, Manner>,
    asked: Vec<String>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl NameServer {
    /// A server with an empty zone.
    pub(crate) async fn start() -> NameServer {
        let (tcp, udp) = listen().await;
        let addr = tcp.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State::default()));
        let tasks = [
            spawn(serve_udp(udp, state.clone())),
            spawn(serve_tcp(tcp, state.clone())),
        ];
        NameServer { addr, state, tasks }
    }

    /// The records of `name` from now on; none: the name exists and has no address.
    pub(crate) fn set(&self, name: &str, addrs: &[IpAddr]) {
        let mut state = self.state.lock().expect("the state");
        state.zone.insert(name.to_owned(), addrs.to_vec());
    }

    /// How questions are treated from now on.
    pub(crate) fn behave(&self, manner: Manner) {
        self.behave_for_a(manner);
        self.behave_for_aaaa(manner);
    }

    pub(crate) fn behave_for_a(&self, manner: Manner) {
        let mut state = self.state.lock().expect("the state");
        state.manners.insert(A, manner);
    }

    pub(crate) fn behave_for_aaaa(&self, manner: Manner) {
        let mut state = self.state.lock().expect("the state");
        state.manners.insert(AAAA, manner);
    }

    /// The questions so far, such as `udp AAAA herd.test`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.lock().expect("the state").asked.clone()
    }
}

/// One port for both: the kernel chooses TCP's, and UDP's is rarely taken.
async fn listen() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = tcp.local_addr().expect("an address");
        if let Ok(udp) = UdpSocket::bind(addr).await {
            return (tcp, udp);
        }
    }
    panic!("no port is free for TCP and UDP both");
}

async fn serve_udp(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut bytes = [0; 4096];
    loop {
        // A client that is gone makes the next receive fail; the server serves on.
        let Ok((length, client)) = socket.recv_from(&mut bytes).await else {
            continue;
        };
        let Some(question) = Question::parse(&bytes[..length]) else {
            continue;
        };
        for answer in respond(&state, &question, "udp") {
            let answer = question.fit_udp(answer);
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        while let Some(bytes) = read_framed(&mut stream).await {
            let Some(question) = Question::parse(&bytes) else {
                break;
            };
            for answer in respond(&state, &question, "tcp") {
                let length = u16::try_from(answer.len()).expect("a DNS message");
                let framed = [&length.to_be_bytes()[..], &answer].concat();
                let _ = stream.write_all(&framed).await;
            }
        }
    }
}

async fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// The messages that answer a question, in order.
fn respond(state: &Mutex<State>, question: &Question, transport: &str) -> Vec<Vec<u8>> {
    let mut state = state.lock().expect("the state");
    let kind = if question.kind == A { "A" } else { "AAAA" };
    state
        .asked
        .push(format!("{transport} {kind} {}", question.name));
    let manner = state
        .manners
        .get(&question.kind)
        .copied()
        .unwrap_or_default();
    let records = state.zone.get(&question.name).map(|addrs| {
        let fitting = addrs
            .iter()
            .filter(|addr| addr.is_ipv4() == (question.kind == A));
        fitting.map(record).collect::<Vec<_>>()
    });
    let code = if records.is_some() { 0 } else { NXDOMAIN };
    let honest = question.message(question.id, code, &records.unwrap_or_default());
    match manner {
        Manner::Honest => vec![honest],
        Manner::Code(code) => vec![question.message(question.id, code, &[])],
        Manner::Silent => vec![],
        Manner::Garbage => vec![[&question.id.to_be_bytes()[..], &[0xff; 40]].concat()],
        Manner::Forged => {
            let forger = [record(&IpAddr::from([6, 6, 6, 6]))];
            vec![question.message(!question.id, 0, &forger), honest]
        }
        Manner::Circular => {
            let itself = (CNAME, vec![0xc0, 12]);
            vec![question.message(question.id, 0, &[itself])]
        }
    }
}

/// Type and data of a record.
type Record = (u16, Vec<u8>);

fn record(addr: &IpAddr) -> Record {
    match addr {
        IpAddr::V4(v4) => (A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AAAA, v6.octets().to_vec()),
    }
}

struct Question {
    id: u16,
    name: String,
    kind: u16,
    edns: bool,
    /// Name, type and class as they were asked, to be repeated in the answer.
    bytes: Vec<u8>,
}

impl Question {
    fn parse(message: &[u8]) -> Option<Question> {
        let id = u16::from_be_bytes([*message.first()?, *message.get(1)?]);
        let (mut at, mut labels) = (12, Vec::new());
        loop {
            let length = usize::from(*message.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_lowercase());
            at += length;
        }
        let tail = message.get(at..at + 4)?;
        Some(Question {
            id,
            name: labels.join("."),
            kind: u16::from_be_bytes([tail[0], tail[1]]),
            edns: message.get(10..12)? != [0, 0],
            bytes: message.get(12..at + 4)?.to_vec(),
        })
    }

    fn message(&self, id: u16, code: u8, records: &[Record]) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        // A response, recursion asked for and available; one question.
        out.extend([0x81, 0x80 | code, 0, 1]);
        let count = u16::try_from(records.len()).expect("fewer records");
        out.extend(count.to_be_bytes());
        out.extend([0, 0, 0, 0]);
        out.extend(&self.bytes);
        for (kind, data) in records {
            out.extend([0xc0, 12]); // the name of the question
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 30]); // class IN, 30 seconds
            let length = u16::try_from(data.len()).expect("short data");
            out.extend(length.to_be_bytes());
            out.extend(data);
        }
        out
    }

    /// An answer too long for UDP is cut to its question and says so.
    fn fit_udp(&self, answer: Vec<u8>) -> Vec<u8> {
        if answer.len() <= UDP_BYTES[usize::from(self.edns)] {
            return answer;
        }
        let mut cut = self.message(self.id, 0, &[]);
        cut[2] |= 0x02;
        cut
    }
}
