//! A real Kubernetes API server for tests: etcd and kube-apiserver as processes of their own, with a PKI of their own and
//! RBAC in force, killed when dropped, also when the test panics or is itself killed. One serves all tests of a process;
//! each test takes a [namespace](Plane::namespace) of its own. Nothing listens anywhere but on 127.0.0.1.
//!
//! Everything here panics with what went wrong, as assertions do: a test that cannot have its API server has failed.
//! Only with `RELAY_E2E_CLUSTER=none` in the environment there is none, and each test that asks says so in a line. With
//! `existing` it is the cluster of `KUBECONFIG`, reached by the kubectl on the `PATH`; tests that stop their API server are
//! then left out with such a line, and namespaces are deleted at the end.
//!
//! In one that is started here no controller runs: namespaces that are deleted stay, owner references collect nothing, aggregated roles stay empty,
//! and pods are objects without containers.

mod account;
mod api_server;
mod binaries;
mod cleaning;
mod etcd;
mod kubeconfig;
mod kubectl;
mod pki;
mod plane;
pub mod ports;
mod process;

pub use account::{Account, PodObject};
pub use binaries::cache;
pub use plane::Plane;
