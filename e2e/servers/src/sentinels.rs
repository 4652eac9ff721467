//! A master, its replica, and three sentinels that watch them and fail over within seconds.

use std::net::SocketAddr;

use crate::{Options, Redis, cluster::peers, process::CONTROL, redis::Role, wait};

/// A master and a replica under three sentinels, two of which have to agree.
pub struct Sentinels {
    servers: [Redis; 2],
    sentinels: [Redis; 3],
}

/// What the sentinels call the master.
const NAME: &str = "relay";

/// How fast sentinels get to know one another at the start; by themselves they look around every few seconds only.
const EAGER: &str = "info-period 200 ping-period 100 ask-period 100 publish-period 100";

/// How fast they work afterwards. After a failover the first ping goes out a ping period later: servers that are silent
/// for longer than that count as down, so it has to be well below `down-after-milliseconds`. In a failover servers are
/// asked once a second, and one that was not heard of for five ping periods is not promoted: so it must not be too short.
/// A master that a sentinel was not told of for four publish periods is made a replica again: these too take longer than
/// a failover. After a pause of two seconds they do nothing for a tilt period.
const STEADY: &str = "ping-period 300 publish-period 1000 tilt-period 500";

impl Sentinels {
    /// Starts the set with neither TLS nor password.
    pub fn start() -> Self {
        Self::start_with(Options::new())
    }

    /// Starts the set with these options for master and replica, and for the sentinels TLS alone.
    pub fn start_with(options: Options) -> Self {
        let role = Role { sentinel: false, conf: peers() };
        let servers = [(); 2].map(|()| Redis::launch(options.clone(), role.clone()));
        let master = servers[0].address().port().to_string();
        servers[1].cli(&["REPLICAOF", "127.0.0.1", &master]);
        let sentinels = [(); 3].map(|()| sentinel(&options, &master));
        let set = Self { servers, sentinels };
        set.pace(EAGER);
        set.wait_until_ok();
        set.pace(STEADY);
        set
    }

    /// What the sentinels call the master.
    pub fn name(&self) -> &str {
        NAME
    }

    /// Where the sentinels listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(Redis::address).collect()
    }

    /// The sentinels themselves.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// The two servers, whatever they are now.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// The server that the sentinels hold for the master.
    pub fn master(&self) -> &Redis {
        self.in_order()[0]
    }

    /// The server that the sentinels do not hold for the master.
    pub fn replica(&self) -> &Redis {
        self.in_order()[1]
    }

    /// The master, then the replica.
    fn in_order(&self) -> [&Redis; 2] {
        let named = named_by(self.running().next().expect("a sentinel runs"));
        let [first, second] = &self.servers;
        match named == first.address() {
            true => [first, second],
            false => [second, first],
        }
    }

    /// Lets the sentinels exchange master and replica, waits until they have, and returns the new master.
    pub fn failover(&self) -> &Redis {
        let replica = self.replica();
        self.running().next().expect("a sentinel runs").cli(&["SENTINEL", "FAILOVER", NAME]);
        self.wait_until_promoted(replica);
        replica
    }

    /// Kills the master and returns it; the sentinels promote the other, see [`Sentinels::wait_until_promoted`].
    pub fn kill_master(&self) -> &Redis {
        let master = self.master();
        master.kill();
        master
    }

    /// Waits until this server takes writes and all sentinels that run name it as the master.
    pub fn wait_until_promoted(&self, server: &Redis) {
        wait::until("a promotion", || role(server).starts_with("master"));
        wait::until("the sentinels to agree", || self.running().all(|sentinel| is_master(sentinel, server)));
    }

    /// Waits until both servers run, the replica follows the master, and each sentinel knows all of them.
    pub fn wait_until_ok(&self) {
        wait::until("a healthy sentinel set", || {
            let role = role(self.replica());
            role.starts_with("slave")
                && role.contains("\nconnected\n")
                && self.sentinels.iter().all(|node| self.is_ok(node))
        });
    }

    fn is_ok(&self, sentinel: &Redis) -> bool {
        let told = sentinel.cli(&["SENTINEL", "MASTER", NAME]);
        let fields: Vec<_> = told.lines().collect();
        let has = |name: &str, value: &str| fields.windows(2).any(|pair| pair == [name, value]);
        let all_known = has("flags", "master") && has("num-slaves", "1") && has("num-other-sentinels", "2");
        let replica = sentinel.cli(&["SENTINEL", "REPLICAS", NAME]);
        let replica: Vec<_> = replica.lines().collect();
        all_known
            && replica.windows(2).any(|pair| pair == ["flags", "slave"])
            && replica.windows(2).any(|pair| pair == ["master-link-status", "ok"])
            && sentinel.call(&["SENTINEL", "CKQUORUM", NAME]).to_string().starts_with("OK 3 usable")
            && is_master(sentinel, self.master())
    }

    fn pace(&self, pace: &str) {
        let words: Vec<_> = ["SENTINEL", "DEBUG"].into_iter().chain(pace.split(' ')).collect();
        self.sentinels.iter().for_each(|sentinel| drop(sentinel.cli(&words)));
    }

    fn running(&self) -> impl Iterator<Item = &Redis> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }
}

/// What a server is, or nothing when it cuts connections because that changes.
fn role(server: &Redis) -> String {
    server.try_call(&["ROLE"]).map(|reply| reply.to_string()).unwrap_or_default()
}

fn is_master(sentinel: &Redis, server: &Redis) -> bool {
    named_by(sentinel) == server.address()
}

/// The address of the master as a sentinel names it.
fn named_by(sentinel: &Redis) -> SocketAddr {
    let named = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).replace('\n', ":");
    named.parse().expect("a sentinel names an address and a port")
}

fn sentinel(options: &Options, master: &str) -> Redis {
    let conf = format!(
        "sentinel monitor {NAME} 127.0.0.1 {master} 2
sentinel auth-user {NAME} {CONTROL}
sentinel auth-pass {NAME} {CONTROL}
sentinel down-after-milliseconds {NAME} 700
sentinel failover-timeout {NAME} 2000
sentinel parallel-syncs {NAME} 1
"
    );
    Redis::launch(options.transport(), Role { sentinel: true, conf })
}
