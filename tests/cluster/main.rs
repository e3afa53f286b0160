//! What a user meets: the command line, the messages, the limits, and a cluster in odd situations.

mod absent;
mod backup;
mod bus;
mod cache;
mod commands;
mod deploy;
mod dev;
mod doctor;
mod garbage;
mod handbooks;
mod identity;
mod jobs;
mod limits;
mod locks;
mod membership;
mod queues;
mod quorum;
mod refusals;
mod running;
mod schedules;
mod shutdown;
mod single;
mod stuck_log;
mod txn;
mod workers;
