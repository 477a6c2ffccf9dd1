//! The simulated node over real sockets: against recordings of a real one, its queues, and the bytes of every fault.

mod client;
mod faults;
mod golden;
mod kinds;
mod management;
mod memory;
mod uploads;
