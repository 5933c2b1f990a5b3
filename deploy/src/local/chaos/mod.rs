//! Trouble by plan for a local cluster, while it is asked without a pause: for people who want to see how it, and their own
//! software on it, take what happens to machines.
//!
//! In: a [`scenario`] and a seed. Out: a timeline for a person, and whether everything that was acknowledged is there.
//! [`scenario`] (pure) says what goes wrong when, [`load`] writes and asks meanwhile, [`story`] (pure) puts into words what
//! was seen, [`run`] does one after the other. The faults themselves are those of [`super::trouble`].

pub mod load;
pub mod run;
pub mod scenario;
pub mod story;
