//! A Redis cluster: three masters that share the slots, each with a replica if a test wants one.

mod migration;

use std::net::SocketAddr;

pub use migration::Move;

use crate::{
    CountingProxy, Options, Redis,
    process::CONTROL,
    redis::Role,
    slots::{SLOTS, slot_of},
    wait,
};

/// What a cluster is to be made of.
#[derive(Clone, Default)]
pub struct Layout {
    /// How each server is started.
    pub options: Options,
    /// Whether each master has a replica.
    pub replicas: bool,
    /// Whether a counting proxy stands before each server, through which clients are sent. Not together with TLS.
    pub proxies: bool,
}

/// Three masters and perhaps their replicas, all in agreement.
pub struct Cluster {
    members: Vec<Member>,
}

struct Member {
    id: String,
    redis: Redis,
    proxy: Option<CountingProxy>,
}

/// How many masters a cluster has.
const MASTERS: u16 = 3;

impl Cluster {
    /// Starts three masters with neither TLS nor password.
    pub fn start() -> Self {
        Self::start_with(Layout::default())
    }

    /// Starts a cluster and waits until its members agree that all is well.
    pub fn start_with(layout: Layout) -> Self {
        let count = if layout.replicas { 2 * MASTERS } else { MASTERS };
        let cluster = Self { members: (0..count).map(|_| member(&layout)).collect() };
        cluster.assign_slots();
        cluster.meet();
        cluster.assign_replicas();
        cluster.wait_until_ok();
        cluster
    }

    /// The servers, the three that start as masters first.
    pub fn nodes(&self) -> Vec<&Redis> {
        self.members.iter().map(|member| &member.redis).collect()
    }

    /// The proxies, in the order of the nodes.
    pub fn proxies(&self) -> Vec<&CountingProxy> {
        self.members.iter().filter_map(|member| member.proxy.as_ref()).collect()
    }

    /// Where clients reach the nodes, in their order: the proxies, if there are any.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Member::address).collect()
    }

    /// The URLs of the nodes, in their order.
    pub fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| member.redis.options().url(member.address())).collect()
    }

    /// The master that serves this key.
    pub fn owner_of(&self, key: &str) -> &Redis {
        &self.owner(slot_of(key)).expect("some node serves each slot").redis
    }

    /// Moves the slot of this key, with all its keys, to another master, and returns that.
    pub fn move_slot_of(&self, key: &str) -> &Redis {
        let migration = self.begin_move_of(key);
        migration.migrate_keys();
        migration.finish()
    }

    /// Begins to move the slot of this key: until the move is finished, keys that the old owner lacks are asked for at the
    /// new one (`ASK`).
    pub fn begin_move_of(&self, key: &str) -> Move<'_> {
        let slot = slot_of(key);
        let from = self.owner(slot).expect("some node serves each slot");
        let others = self.members.iter().filter(|member| member.id != from.id);
        let to = others.into_iter().find(|member| member.redis.is_running() && member.is_master());
        Move::begin(self, slot, from, to.expect("another master runs"))
    }

    /// Promotes the replica of the master that serves this key, which may be dead, waits until all agree, and returns the
    /// new master.
    pub fn fail_over(&self, key: &str) -> &Redis {
        let slot = slot_of(key);
        let master = self.owner(slot).expect("some node serves each slot");
        let replica = self.replica_of(&master.id).expect("the master has a replica that runs");
        let how: &[&str] = if master.redis.is_running() { &[] } else { &["TAKEOVER"] };
        replica.redis.cli(&[&["CLUSTER", "FAILOVER"], how].concat());
        wait::until("a failover", || {
            self.running().all(|node| owner_seen_by(node, slot).as_ref() == Some(&replica.id))
        });
        &replica.redis
    }

    /// Waits until all nodes run, are in touch, and agree that every slot is served.
    pub fn wait_until_ok(&self) {
        wait::until("a healthy cluster", || self.running().all(|node| self.is_ok(node)));
    }

    fn is_ok(&self, node: &Redis) -> bool {
        let views = node.cli(&["CLUSTER", "NODES"]);
        let members: Vec<_> = views.lines().filter(|line| !line.contains("handshake")).collect();
        let replicas = members.iter().filter(|line| line.contains("slave")).count();
        let broken = |line: &str| line.contains("fail") || line.contains("disconnected");
        node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            && members.len() == self.members.len()
            && replicas == self.members.len() - usize::from(MASTERS)
            && !members.iter().any(|line| broken(line))
            && follows_if_replica(node)
    }

    fn assign_slots(&self) {
        for (member, index) in self.members.iter().zip(0..MASTERS) {
            let bound = |index: u16| u32::from(SLOTS) * u32::from(index) / u32::from(MASTERS);
            let (first, last) = (bound(index).to_string(), (bound(index + 1) - 1).to_string());
            member.redis.cli(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
    }

    fn meet(&self) {
        for (epoch, member) in self.members.iter().enumerate() {
            member.redis.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(epoch + 1).to_string()]);
            for other in &self.members[..epoch] {
                member.redis.cli(&["CLUSTER", "MEET", "127.0.0.1", &other.redis.address().port().to_string()]);
            }
        }
        let count = format!("cluster_known_nodes:{}\r\n", self.members.len());
        let met = |node: &Redis| {
            node.cli(&["CLUSTER", "INFO"]).contains(&count) && !node.cli(&["CLUSTER", "NODES"]).contains("handshake")
        };
        wait::until("the nodes to meet", || self.running().all(met));
    }

    fn assign_replicas(&self) {
        let (masters, replicas) = self.members.split_at(usize::from(MASTERS));
        for (replica, master) in replicas.iter().zip(masters) {
            replica.redis.cli(&["CLUSTER", "REPLICATE", &master.id]);
        }
    }

    fn running(&self) -> impl Iterator<Item = &Redis> {
        self.members.iter().map(|member| &member.redis).filter(|node| node.is_running())
    }

    fn owner(&self, slot: u16) -> Option<&Member> {
        let id = owner_seen_by(self.running().next()?, slot)?;
        self.members.iter().find(|member| member.id == id)
    }

    fn replica_of(&self, master: &str) -> Option<&Member> {
        self.members.iter().filter(|member| member.redis.is_running()).find(|member| {
            let views = member.redis.cli(&["CLUSTER", "NODES"]);
            views.lines().any(|line| line.contains("myself,slave") && line.split(' ').nth(3) == Some(master))
        })
    }
}

impl Member {
    fn address(&self) -> SocketAddr {
        self.proxy.as_ref().map_or_else(|| self.redis.address(), CountingProxy::address)
    }

    fn is_master(&self) -> bool {
        self.redis.cli(&["ROLE"]).starts_with("master")
    }
}

fn member(layout: &Layout) -> Member {
    assert!(!(layout.proxies && layout.options.has_tls()), "a proxy cannot read TLS");
    let proxy = layout.proxies.then(CountingProxy::start_unaimed);
    let announced = proxy.as_ref().map(|proxy| format!("cluster-announce-port {}\n", proxy.address().port()));
    let tls = if layout.options.has_tls() { "tls-cluster yes\n" } else { "" };
    let conf = CONF.to_owned() + tls + &announced.unwrap_or_default() + &peers();
    let redis = Redis::launch(layout.options.clone(), Role { sentinel: false, conf });
    if let Some(proxy) = &proxy {
        proxy.aim(redis.address());
    }
    Member { id: redis.cli(&["CLUSTER", "MYID"]), redis, proxy }
}

const CONF: &str = "cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 2000
cluster-announce-ip 127.0.0.1
";

/// How servers of a set sign in to one another, and how fast a replica joins.
pub(crate) fn peers() -> String {
    format!("masteruser {CONTROL}\nmasterauth {CONTROL}\nrepl-diskless-sync-delay 0\n")
}

fn follows_if_replica(node: &Redis) -> bool {
    let role = node.cli(&["ROLE"]);
    role.starts_with("master") || role.contains("\nconnected\n")
}

/// The id of the node that serves `slot`, as `node` sees it.
fn owner_seen_by(node: &Redis, slot: u16) -> Option<String> {
    let views = node.cli(&["CLUSTER", "NODES"]);
    let line = views.lines().find(|line| line.split(' ').skip(8).any(|range| contains(range, slot)))?;
    line.split(' ').next().map(str::to_owned)
}

/// Whether a range such as `0-5460` or `866` has the slot. Slots on the move (`[866->-...]`) stand in a range too.
fn contains(range: &str, slot: u16) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&slot),
        (Err(_), _) | (_, Err(_)) => false,
    }
}
