//! The fleet at one moment: what routing looks at and what the federated answers are made of.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;

use crate::config::NodeConfig;
use crate::dialect::{Filter, Format, Mount, Operation};
use crate::fleet::NodeId;
use crate::fleet::catalogue::{self, Conflict, Groups, Moment, Scope};
use crate::fleet::health::{Health, Spared};
use crate::fleet::index::{Index, index};
use crate::fleet::listing::{Installed, Loaded};
use crate::fleet::memory::{Memory, Resident, Room};
use crate::fleet::moments::Moments;
use crate::fleet::offer::Offered;
use crate::fleet::pages::{Expiring, Live, Pages};
use crate::fleet::rules::Rules;
use crate::fleet::state::State;
use crate::fleet::traits::Traits;
use crate::model::ModelKey;
use crate::profile::{Listing, Needs, Shortcoming};

/// All nodes as they were when the last visible change was observed.
#[derive(Debug)]
pub struct Snapshot {
    /// In the order of the configuration, which is what a node index of Open WebUI counts.
    pub nodes: Vec<Node>,
    /// Nodes that were taken out of the configuration while requests were still with them; nothing new reaches them.
    leaving: Vec<Node>,
    places: Arc<HashMap<NodeId, usize>>,
    pub(super) rules: Arc<Rules>,
    pub(super) index: Arc<Index>,
    pages: Arc<Pages>,
    expiring: Arc<Expiring>,
    live: Arc<Live>,
}

/// One node at that moment. Its in-flight count alone is live.
#[derive(Debug, Clone)]
pub struct Node {
    /// Who it is; the same in every snapshot as long as it is in the configuration.
    pub id: NodeId,
    /// As it was read last; a reload replaces it where something changed.
    pub config: Arc<NodeConfig>,
    /// The last address its name resolved to.
    pub addr: Option<SocketAddr>,
    /// Decides whether it is routed to.
    pub health: Health,
    /// Why it is in service although its requests fail; `None` when they do not.
    pub spared: Option<Spared>,
    /// Requests it may have at once as far as its health goes; `None` but for a node that comes back from being down.
    pub at_once_max: Option<u32>,
    /// Whether the operator has taken it out of service; it is still probed.
    pub draining: bool,
    /// As the node wrote it, such as `0.33.0-rc2`.
    pub version: Option<Arc<str>>,
    /// `None` until the node has told its models for the first time; kept when it goes down.
    pub installed: Option<Arc<[Installed]>>,
    /// What of these clients may ask for, and under which names; rebuilt whenever they or the node's settings change.
    pub(super) offered: Arc<[Offered]>,
    /// Whether it has been down for so long that its models left the catalogue.
    pub(super) stale: bool,
    /// Emptied when the node goes down: nobody knows what a lost node holds in memory.
    pub loaded: Arc<[Loaded]>,
    /// The same, as far as it would have to make room for others; rebuilt with the index.
    pub(super) residents: Arc<[Resident]>,
    pub(super) counters: Arc<Counters>,
}

/// A node that has a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who has it.
    pub node: NodeId,
    /// Where that node stands in [`Snapshot::nodes`].
    pub at: usize,
    /// The node's own spelling of the name.
    pub spelled: Arc<str>,
    /// Whether the model is in the node's memory.
    pub warm: bool,
    /// The context its runner has there, tokens, where the node says so.
    pub context: Option<u64>,
    /// Whether the node would ask another company's server for it.
    pub remote: bool,
    /// What it can do and needs there.
    pub traits: Arc<Traits>,
    /// Where the model stands in the node's `offered`.
    pub(super) place: usize,
}

/// What several snapshots share of a node: everything that changes with each request.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) in_flight: AtomicU32,
    /// Loads under way, and requests that wait for the first byte of a model that was not in memory.
    pub(super) loading: AtomicU32,
    /// The fleet-wide ordinal of the last lease; 0 is never.
    pub(super) last_picked: AtomicU64,
    /// Whether a success would change nothing in the health machine.
    pub(super) steady: AtomicBool,
    moments: Moments,
    /// How much it was seen to hold.
    pub(super) memory: Memory,
}

impl Node {
    /// Requests under way, from the decision to send on.
    pub fn in_flight(&self) -> u32 {
        self.counters.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the node loads a model for us.
    pub fn is_loading(&self) -> bool {
        0 < self.loads_under_way()
    }

    /// Requests that wait for a model which the node has to load first.
    pub fn loads_under_way(&self) -> u32 {
        self.counters.loading.load(Ordering::Relaxed)
    }

    /// An ordinal that grows with every lease of the fleet; 0 when the node was never picked.
    pub fn last_picked(&self) -> u64 {
        self.counters.last_picked.load(Ordering::Relaxed)
    }

    /// The models in its memory, where it loads them when they are asked for.
    pub fn residents(&self) -> &[Resident] {
        &self.residents
    }

    /// Whether a model of so many bytes fits into its memory beside what is there.
    pub fn room(&self, bytes: u64) -> Room {
        self.counters.memory.room(&self.residents, bytes)
    }

    /// Whether it loads a model when it is asked for, and what it holds changes thereby.
    pub fn loads_on_demand(&self) -> bool {
        self.config.profile.listing == Listing::Ollama
    }

    /// When it was last watched.
    pub fn moments(&self) -> &Moments {
        &self.counters.moments
    }

    /// Whether new requests may be sent to it now, as far as its own state goes; slots are another matter.
    pub fn is_open(&self) -> bool {
        self.health.is_up() && !self.draining
    }

    /// Whether the address of a call allows it.
    pub fn is_on(&self, mount: &Mount) -> bool {
        match mount {
            Mount::All => true,
            Mount::OpenAi => self.config.profile.api().openai_compatible,
            Mount::Profile(name) => self.config.profile.name == *name,
        }
    }

    /// Why it can't serve a request as it comes, as far as its type and version go; `None` when it can.
    pub fn shortcoming(&self, operation: Operation, needs: Needs) -> Option<Shortcoming<'_>> {
        let profile = &self.config.profile;
        profile.shortcoming(operation, self.version.as_deref(), needs)
    }

    /// Whether it can serve a request as it comes, as far as its type and version go.
    pub fn can_serve(&self, operation: Operation, needs: Needs) -> bool {
        self.shortcoming(operation, needs).is_none()
    }

    /// Why it is, or is not, in service.
    pub fn state(&self) -> State {
        if self.draining {
            return State::Draining;
        }
        self.health.state()
    }

    /// Requests it may have at once: what the configuration says, and less while it comes back; `None` is no limit.
    pub fn slots(&self) -> Option<u32> {
        let limits = [self.config.slots, self.at_once_max];
        limits.into_iter().flatten().min()
    }

    /// Whether the node has told its models.
    pub fn knows_models(&self) -> bool {
        self.installed.is_some()
    }

    /// The installed models under the node's own names, whether offered or not; none while the node has not told them.
    pub fn models(&self) -> &[Installed] {
        self.installed.as_deref().unwrap_or_default()
    }

    /// What clients may ask for; nothing of a node that has been down for longer than `stale_threshold`.
    pub fn offered(&self) -> &[Offered] {
        if self.stale { &[] } else { &self.offered }
    }
}

impl Snapshot {
    /// `leaving`: nodes of the snapshot before that are no longer in the configuration.
    pub(super) fn new(nodes: Vec<Node>, leaving: Vec<Node>, rules: Arc<Rules>) -> Snapshot {
        let mut nodes = nodes;
        let places = nodes.iter().enumerate().map(|(at, node)| (node.id, at));
        Snapshot {
            places: Arc::new(places.collect()),
            index: Arc::new(index(&mut nodes)),
            nodes,
            leaving,
            rules,
            pages: Arc::default(),
            expiring: Arc::default(),
            live: Arc::default(),
        }
    }

    /// The same nodes with other models, or with models that are warm elsewhere.
    pub(super) fn with_other_models(&self, mut nodes: Vec<Node>) -> Snapshot {
        Snapshot {
            index: Arc::new(index(&mut nodes)),
            pages: Arc::default(),
            expiring: Arc::default(),
            live: Arc::default(),
            ..self.with_nodes(nodes)
        }
    }

    /// The same models on nodes that changed in something else.
    pub(super) fn with_same_models(&self, nodes: Vec<Node>) -> Snapshot {
        Snapshot {
            live: Arc::default(),
            ..self.with_nodes(nodes)
        }
    }

    /// The same models, equally warm, which leave memory at other moments.
    pub(super) fn with_other_expiry(&self, nodes: Vec<Node>) -> Snapshot {
        Snapshot {
            expiring: Arc::default(),
            ..self.with_nodes(nodes)
        }
    }

    /// Other nodes, of which everything that was rendered is still true.
    fn with_nodes(&self, nodes: Vec<Node>) -> Snapshot {
        Snapshot {
            nodes,
            leaving: self.leaving.clone(),
            places: Arc::clone(&self.places),
            rules: Arc::clone(&self.rules),
            index: Arc::clone(&self.index),
            pages: Arc::clone(&self.pages),
            expiring: Arc::clone(&self.expiring),
            live: Arc::clone(&self.live),
        }
    }

    /// `None` for a node that is not, or no longer, in the configuration.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(self.place(id)?)
    }

    pub(super) fn place(&self, id: NodeId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// The node of one of this snapshot's holders.
    pub fn node_of(&self, holder: &Holder) -> &Node {
        &self.nodes[holder.at]
    }

    /// Whether the model is in the node's memory, as far as is known: of a node that is down nothing is.
    pub fn is_loaded(&self, holder: &Holder) -> bool {
        holder.warm && !self.node_of(holder).health.is_down()
    }

    /// The model that one of this snapshot's holders has, as that node lists it.
    pub fn model_of(&self, holder: &Holder) -> &Installed {
        let node = &self.nodes[holder.at];
        &node.models()[node.offered()[holder.place].place]
    }

    /// The node of that name.
    pub fn named(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.config.name == name)
    }

    /// Nodes that are no longer in the configuration but still answer requests.
    pub fn leaving(&self) -> impl Iterator<Item = &Node> {
        self.leaving.iter().filter(|node| 0 < node.in_flight())
    }

    /// The rules by which the catalogue is made.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The nodes that have the model, dead ones too; `None` when no node ever told of it.
    pub fn holders(&self, model: &ModelKey) -> Option<&[Holder]> {
        self.index.get(model).map(Vec::as_slice)
    }

    /// As [`Self::holders`], by a name as it is listed.
    pub fn named_holders(&self, name: &str) -> impl Iterator<Item = &Holder> {
        let key = ModelKey::parse_any(name).ok();
        let holders = key.and_then(|key| self.holders(&key));
        holders.unwrap_or_default().iter()
    }

    /// Whether any node takes requests.
    pub fn is_ready(&self) -> bool {
        self.nodes.iter().any(Node::is_open)
    }

    /// Every name in the catalogue once, as it is listed, in the order of the alphabet.
    pub fn model_names(&self) -> impl Iterator<Item = &str> {
        let names = self.pages.names.get_or_init(|| {
            let lines = self.lines(&Scope::ALL);
            let mut names: Vec<Arc<str>> = lines.iter().map(|line| line.name.into()).collect();
            names.sort_unstable();
            names
        });
        names.iter().map(AsRef::as_ref)
    }

    /// Names under which nodes have different models.
    pub fn conflicts(&self) -> &[Conflict] {
        let find = || catalogue::conflicts(self);
        self.pages.conflicts.get_or_init(find)
    }

    /// Which names are one model.
    pub(super) fn groups(&self, scope: &Scope) -> Arc<Groups> {
        let make = || Arc::new(Groups::of(self, scope));
        self.pages.groups.get_or_make(scope.clone(), make)
    }

    /// The name under which listings show a model; `None` when nobody has it.
    pub fn listed_name(&self, model: &ModelKey) -> Option<Arc<str>> {
        let holder = self.holders(model)?.first()?;
        Some(self.public_name(holder))
    }

    /// The name under which a holder's node offers the model.
    pub fn public_name(&self, holder: &Holder) -> Arc<str> {
        let offered = self.node_of(holder).offered().get(holder.place);
        offered.map_or_else(|| Arc::clone(&holder.spelled), |it| Arc::clone(&it.name))
    }

    /// A whole listing of models; nobody is asked for it.
    pub fn listing(&self, scope: &Scope, format: Format) -> Bytes {
        let render = || catalogue::page(self, scope, format, &Filter::default());
        match format {
            // It tells which nodes are up.
            Format::Unified => self.live.unified.get_or_make(scope.clone(), render),
            Format::Ollama => self.expiring.tags.get_or_make(scope.clone(), render),
            _ => {
                let key = (scope.clone(), format);
                self.pages.listings.get_or_make(key, render)
            }
        }
    }

    /// A listing of some models.
    pub fn filtered(&self, scope: &Scope, format: Format, filter: &Filter) -> Bytes {
        catalogue::page(self, scope, format, filter)
    }

    /// One entry of a listing, which echoes the asked spelling; `None` when nobody offers the model.
    pub fn item(
        &self,
        scope: &Scope,
        format: Format,
        asked: &str,
        moment: Moment,
    ) -> Option<Bytes> {
        catalogue::item(self, scope, format, asked, moment)
    }

    /// The body of `/api/ps`.
    pub fn ps(&self, scope: &Scope) -> Bytes {
        let render = || catalogue::ps(self, scope);
        self.expiring.ps.get_or_make(scope.clone(), render)
    }

    /// The body of `/api/version`.
    pub fn version(&self) -> Bytes {
        let render = || catalogue::version(&self.nodes);
        self.live.version.get_or_init(render).clone()
    }
}
