//! Who waits and who goes next. Pure: the waiting itself is `gateway::place`'s.

mod budget;
pub use budget::Budget;

mod claim;
pub use claim::{Claim, Class, Tenant, Told};

mod flow;

mod full;

mod pace;

mod queue;
pub use queue::{Chance, Limits, Queue, Ticket, Tried, Wish};
