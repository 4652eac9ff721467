//! `relay check --cluster` against installations that are right, and against ones of which one thing is wrong: each is
//! found, and what is shown as the remedy is right. There is no kubelet and no controller: what they would say of
//! Deployments and pods, the tests write.

mod definitions;
mod healthy;
mod installed;
mod operators;
mod planes;
mod requests;
mod secrets;
mod trust;
