//! `arriero`: argv and environment in, a running gateway out. The only reader of either.

mod cli;

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use arriero::config::{self, Config, Sources};
use arriero::gateway::server::Doors;
use arriero::gateway::{Origin, Reading};
use arriero::{demo, gateway, telemetry};

/// glibc's allocator keeps what a wave of streams has freed and grows with every next wave; docs/decisions/0006-allocator.md.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One address for a herd of Ollama nodes.
#[derive(Parser)]
#[command(version, arg_required_else_help = false)]
struct Cli {
    /// Configuration file; default: $ARRIERO_CONFIG, then conf/arriero.yaml if it is there, then none.
    #[arg(short, long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway (what plain `arriero` does).
    Serve,
    /// Read a configuration and print what it means.
    Check {
        /// The file; default: as for `serve`.
        file: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration file, for editors and checks.
    Schema,
    /// Turn a configuration of Olla's into one of ours, on standard output; what cannot be said goes to standard error.
    ImportOlla {
        /// Olla's file.
        file: PathBuf,
    },
    /// Ask a running gateway for its nodes, or take one out of service.
    Nodes(cli::nodes::NodesArgs),
    /// Ask a running gateway which node would get a request, and why.
    Explain(cli::explain::ExplainArgs),
    /// Have a running gateway read its configuration again.
    Reload(cli::AdminArgs),
    /// Three simulated nodes and a gateway in one process, nothing else needed.
    Demo(DemoArgs),
    /// One simulated node, for trying things out.
    DemoNode(DemoNodeArgs),
}

#[derive(Args)]
struct DemoArgs {
    /// Port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 40114)]
    port: u16,
    /// Port of the admin listener; 0 takes any free one.
    #[arg(long, default_value_t = 40115)]
    admin_port: u16,
}

#[derive(Args)]
struct DemoNodeArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes any free one.
    #[arg(long, default_value_t = 11434)]
    port: u16,
    #[arg(long, default_value = "demo")]
    name: String,
    /// A chat model in memory; may be given more than once.
    #[arg(long = "model", default_values = ["llama3.2", "qwen3"])]
    models: Vec<String>,
    /// A chat model on disk that nobody has loaded yet; may be given more than once.
    #[arg(long = "disk")]
    disk: Vec<String>,
    /// An embedding model on disk.
    #[arg(long, default_value = "nomic-embed-text")]
    embedder: String,
    /// Requests at a time per model.
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// Models in memory at once; the idle one used longest ago makes room.
    #[arg(long, default_value_t = 3)]
    loaded_max: usize,
    /// How long a model takes into memory, milliseconds.
    #[arg(long, default_value_t = 0)]
    load_delay_ms: u64,
    /// Tokens of an answer when the request sets no limit.
    #[arg(long, default_value_t = 20)]
    tokens: usize,
    /// Pause between two tokens, milliseconds.
    #[arg(long, default_value_t = 30)]
    token_delay_ms: u64,
    /// Speak OpenAI's dialect only, as vLLM does.
    #[arg(long)]
    openai: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(cli.config),
        Command::Check { file } => {
            load(file.or(cli.config)).and_then(|config| print(&config::describe(&config)))
        }
        Command::Schema => print(&config::schema()),
        Command::ImportOlla { file } => import_olla(&file),
        Command::Nodes(args) => {
            cli::nodes::run(&args, || load(cli.config)).and_then(|said| print(&said))
        }
        Command::Explain(args) => {
            cli::explain::run(&args, || load(cli.config)).and_then(|said| print(&said))
        }
        Command::Reload(args) => {
            cli::reload(&args, || load(cli.config)).and_then(|said| print(&said))
        }
        Command::Demo(args) => without_file(cli.config).and_then(|()| run_demo(&args)),
        Command::DemoNode(args) => without_file(cli.config).and_then(|()| run_demo_node(&args)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration file, if there is one. Looked for once: a file that is gone later is a mistake, and no word to do without.
fn locate(file: Option<PathBuf>) -> Option<PathBuf> {
    let named = file.or_else(|| std::env::var_os("ARRIERO_CONFIG").map(PathBuf::from));
    let usual = Path::new("conf/arriero.yaml");
    named.or_else(|| usual.exists().then(|| usual.to_owned()))
}

/// Finds, reads and understands the configuration.
fn load(file: Option<PathBuf>) -> Result<Config, String> {
    read(locate(file).as_deref()).config
}

/// Reads and understands the configuration.
fn read(path: Option<&Path>) -> Reading {
    let Some(path) = path else {
        return understand(None);
    };
    let mut reading = match std::fs::read_to_string(path) {
        Ok(text) => understand(Some((&path.display().to_string(), &text))),
        Err(error) => Reading {
            config: Err(format!("{}: {error}", path.display())),
            files: Vec::new(),
        },
    };
    reading.files.push(path.to_owned());
    reading
}

fn understand(file: Option<(&str, &str)>) -> Reading {
    let files = RefCell::new(Vec::new());
    let sources = Sources {
        file,
        env: &|name| std::env::var(name).ok(),
        env_names: std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .collect(),
        read_file: &|path| {
            files.borrow_mut().push(PathBuf::from(path));
            std::fs::read(path).map_err(|error| error.to_string())
        },
        list_dir: &|path| {
            files.borrow_mut().push(PathBuf::from(path));
            list_dir(path)
        },
        cores: cores(),
        terminal: std::io::stderr().is_terminal(),
    };
    let config = config::load(&sources).map_err(|error| error.to_string());
    Reading {
        config,
        files: files.into_inner(),
    }
}

/// As they were at start: a machine may get more, and `threads: 0` must not mean something else at every reload.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

fn import_olla(file: &Path) -> Result<(), String> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let imported = config::import_olla(&name, &text).map_err(|error| error.to_string())?;
    for note in &imported.notes {
        let _ = writeln!(std::io::stderr(), "{name}: {note}");
    }
    print(&imported.yaml)?;
    match imported.lost_nodes.as_slice() {
        [] => Ok(()),
        lost => Err(format!(
            "{name}: nodes are missing in the result: {}",
            lost.join(", ")
        )),
    }
}

fn list_dir(path: &str) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
    entries
        .map(|entry| {
            let name = entry.map_err(|error| error.to_string())?.file_name();
            Ok(name.to_string_lossy().into_owned())
        })
        .collect()
}

fn serve(file: Option<PathBuf>) -> Result<(), String> {
    let path = locate(file);
    let Reading { config, files } = read(path.as_deref());
    let origin = Origin::new(Box::new(move || read(path.as_deref())), files);
    let config = config?;
    let doors = choose_doors(&config)?;
    run(config, doors, Some(origin))
}

fn choose_doors(config: &Config) -> Result<Doors, String> {
    Doors::choose(config).map_err(|fault| fault.message)
}

/// The variables that name nodes, where the configuration's nodes are others.
fn unused_nodes(config: &Config) -> impl Iterator<Item = &'static str> {
    let set = ["OLLAMA_BASE_URLS", "OLLAMA_BASE_URL"].into_iter();
    let set = set.filter_map(|name| Some((name, std::env::var(name).ok()?)));
    let is_used = |value: &str| {
        config
            .nodes
            .iter()
            .any(|node| value.contains(&node.url.authority()))
    };
    set.filter(move |(_, value)| !value.trim().is_empty() && !is_used(value))
        .map(|(name, _)| name)
}

fn run(config: Config, doors: Doors, origin: Option<Origin>) -> Result<(), String> {
    telemetry::log::install(&config.logging, gateway::REPETITIVE_LOGS);
    for name in unused_nodes(&config) {
        log::warn!("{name} is set and not used: the configuration lists the nodes itself");
    }
    gateway::server::run(config, doors, origin).map_err(|fault| fault.message)
}

/// What shows something of its own making must not seem to show a file.
fn without_file(file: Option<PathBuf>) -> Result<(), String> {
    match file {
        None => Ok(()),
        Some(file) => Err(format!(
            "the demonstration reads no configuration; run `arriero -c {}` for that one",
            file.display()
        )),
    }
}

fn run_demo(args: &DemoArgs) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let start = async {
        let mut nodes = Vec::new();
        for node in demo::trio() {
            nodes.push(node.start().await?);
        }
        std::io::Result::Ok(nodes)
    };
    let nodes = runtime
        .block_on(start)
        .map_err(|error| format!("the simulated nodes can't start: {error}"))?;
    let urls: Vec<String> = nodes.iter().map(demo::Node::url).collect();
    let config = understand(Some(("demo", &demo_config(&urls, args)))).config?;
    let doors = choose_doors(&config)?;
    print(&demo_greeting(&urls, &doors))?;
    run(config, doors, None) // the nodes live until the gateway ends
}

fn demo_config(urls: &[String], args: &DemoArgs) -> String {
    let nodes = urls
        .iter()
        .zip(1..)
        .map(|(url, n)| format!("      - {{ url: \"{url}\", name: gpu-{n}, type: ollama }}\n"));
    format!(
        "server: {{ port: {} }}\nadmin: {{ port: {} }}\ndiscovery:\n  static:\n    endpoints:\n{}",
        args.port,
        args.admin_port,
        nodes.collect::<String>()
    )
}

fn demo_greeting(urls: &[String], doors: &Doors) -> String {
    let at = format!("http://{}", doors.main);
    format!(
        "Three simulated nodes ({}) behind one gateway at {at}. Try, in another terminal:\n\n  \
         curl {at}/api/tags\n  \
         curl {at}/api/chat -d '{{\"model\":\"llama3.2\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n  \
         curl -N {at}/v1/chat/completions -d '{{\"model\":\"qwen3\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n\n\
         Health and metrics: curl http://{}/metrics    Stop: Ctrl-C\n",
        urls.join(", "),
        doors.admin,
    )
}

fn run_demo_node(args: &DemoNodeArgs) -> Result<(), String> {
    let kind = if args.openai {
        demo::Kind::OpenAi
    } else {
        demo::Kind::Ollama
    };
    let builder = demo::Node::builder()
        .name(&args.name)
        .kind(kind)
        .slots(args.slots)
        .loaded_max(args.loaded_max)
        .load_delay(Duration::from_millis(args.load_delay_ms))
        .tokens(args.tokens)
        .token_delay(Duration::from_millis(args.token_delay_ms))
        .embedder(&args.embedder);
    let builder = args.models.iter().fold(builder, |b, model| b.loaded(model));
    let builder = args.disk.iter().fold(builder, |b, model| b.model(model));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let addr = SocketAddr::from((args.host, args.port));
        let node = builder
            .start_on(addr)
            .await
            .map_err(|error| format!("{addr} can't be listened on: {error}"))?;
        print(&format!(
            "simulated node `{}` at {}\n",
            args.name,
            node.url()
        ))?;
        tokio::signal::ctrl_c()
            .await
            .map_err(|error| error.to_string())
    })
}

/// Standard output; a reader that has gone is not an error worth telling.
fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    Ok(())
}
