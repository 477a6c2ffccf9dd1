//! The one integration test binary: real gateways, real sockets, simulated nodes that misbehave on cue.

mod support;

mod tidy;

mod recognize;

mod relay;

mod strangers;

mod types;

mod failover;

mod streams;

mod leaving;

mod federated;

mod manage;

mod bodies;

mod limits;

mod slots;

mod loads;

mod runners;

mod sticky;

mod aliases;

mod capable;

mod olla_page;

mod strategies;

mod refresh;

mod fairness;

mod peers;

mod hedges;

mod placement;

mod secrecy;

mod catalogue;
mod death;

mod health;

mod admin;

mod dns;

mod dns_nodes;
mod figures;

mod status;

mod process;

mod nodes;

mod explain;

mod reload;

mod origin;

mod h2;

mod tls;

mod raw;

mod faults;

mod pressure;

mod mutation;
