//! The series of models, hosts and relay keys, looked up once for each name: a request counts through what is kept here.
//! A series is shown from its first count on.

use std::sync::{Arc, OnceLock};

use foldhash::HashMap;
use parking_lot::RwLock;
use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use protocol::usage::Usage;
use table::NanoUsd;

use super::{
    Counters, MOST_NAMES, RequestOver,
    labels::{
        self, AttemptLabels, CostLabels, DurationLabels, KeyLabels, KeyTokenLabels, Name, RequestLabels, TokenLabels,
    },
};
use crate::meter::record::AttemptOutcome;

/// Series by name, up to a bound; what is beyond it counts together, and so does what has no name. Names are those of the
/// table, so that their hash need not withstand anybody.
#[derive(Debug)]
pub(super) struct Named<S> {
    known: RwLock<HashMap<Arc<str>, Arc<S>>>,
    none: OnceLock<Arc<S>>,
    other: OnceLock<Arc<S>>,
}

impl<S> Default for Named<S> {
    fn default() -> Self {
        Self { known: RwLock::default(), none: OnceLock::new(), other: OnceLock::new() }
    }
}

impl<S> Named<S> {
    /// The series of a name.
    pub(super) fn of(&self, name: Option<&str>, new: impl FnOnce(Name) -> S) -> Arc<S> {
        let Some(name) = name else { return self.none.get_or_init(|| Arc::new(new(Name::none()))).clone() };
        if let Some(known) = self.known.read().get(name) {
            return known.clone();
        }
        let mut known = self.known.write();
        if let Some(known) = known.get(name) {
            return known.clone();
        }
        if known.len() >= MOST_NAMES {
            return self.other.get_or_init(|| Arc::new(new(Name::other()))).clone();
        }
        let name: Arc<str> = name.into();
        let series = Arc::new(new(Name(name.clone())));
        known.insert(name, series.clone());
        series
    }
}

/// What is counted by model.
#[derive(Clone, Debug)]
pub(super) struct ModelFamilies {
    pub(super) requests: Counters<RequestLabels>,
    pub(super) tokens: Counters<TokenLabels>,
    pub(super) cost: Counters<CostLabels>,
    pub(super) unpriced: Counters<CostLabels>,
    pub(super) durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    pub(super) first_content: Family<DurationLabels, Histogram, fn() -> Histogram>,
}

/// The series of one model.
#[derive(Debug)]
pub struct ModelSeries {
    name: Name,
    families: ModelFamilies,
    by_host: Named<Requests>,
    durations: [OnceLock<Histogram>; labels::SHAPES],
    first_content: [OnceLock<Histogram>; labels::SHAPES],
    tokens: [OnceLock<Counter>; 8],
    cost: OnceLock<Counter>,
    unpriced: OnceLock<Counter>,
}

/// Requests for a model that a host answered, by shape and class of status.
#[derive(Debug)]
struct Requests {
    host: Name,
    counts: [[OnceLock<Counter>; labels::STATUSES.len()]; labels::SHAPES],
}

impl ModelSeries {
    pub(super) fn new(name: Name, families: ModelFamilies) -> Self {
        Self {
            name,
            families,
            by_host: Named::default(),
            durations: Default::default(),
            first_content: Default::default(),
            tokens: Default::default(),
            cost: OnceLock::new(),
            unpriced: OnceLock::new(),
        }
    }

    /// A request is over; `host` is the name that its host is counted under.
    pub(super) fn request_over(&self, over: &RequestOver<'_>, host: Option<&Name>) {
        let (shape, at, class) =
            (labels::shape(over.shape), labels::shape_index(over.shape), labels::class(over.status));
        let requests = self.by_host.of(host.map(|host| &*host.0), |host| Requests { host, counts: Default::default() });
        let requested = || {
            let (model, host) = (self.name.clone(), requests.host.clone());
            let labels = RequestLabels { shape, model, host, status: labels::STATUSES[class] };
            self.families.requests.get_or_create_owned(&labels)
        };
        requests.counts[at][class].get_or_init(requested).inc();
        let labels = || DurationLabels { shape, model: self.name.clone() };
        let durations = self.durations[at].get_or_init(|| self.families.durations.get_or_create_owned(&labels()));
        durations.observe(over.duration.as_secs_f64());
        if let Some(first_content) = over.first_content {
            let series =
                self.first_content[at].get_or_init(|| self.families.first_content.get_or_create_owned(&labels()));
            series.observe(first_content.as_secs_f64());
        }
    }

    /// Tokens of an answer. Reasoning and sound are parts of input and output, shown beside them.
    pub fn tokens(&self, usage: &Usage) {
        let kinds = [
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write_5m", usage.cache_write_5m),
            ("cache_write_1h", usage.cache_write_1h),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
            ("audio_input", usage.audio_input),
            ("audio_output", usage.audio_output),
        ];
        for ((kind, count), series) in kinds.into_iter().zip(&self.tokens).filter(|((_, count), _)| *count > 0) {
            let labels = || TokenLabels { model: self.name.clone(), kind };
            series.get_or_init(|| self.families.tokens.get_or_create_owned(&labels())).inc_by(count);
        }
    }

    /// What an answer cost; absent: nobody knows.
    pub fn cost(&self, cost: Option<NanoUsd>) {
        let labels = || CostLabels { model: self.name.clone() };
        match cost {
            Some(cost) => {
                self.cost.get_or_init(|| self.families.cost.get_or_create_owned(&labels())).inc_by(cost.0);
            }
            None => {
                self.unpriced.get_or_init(|| self.families.unpriced.get_or_create_owned(&labels())).inc();
            }
        }
    }
}

/// The series of one host.
#[derive(Debug)]
pub(super) struct HostSeries {
    pub(super) name: Name,
    attempts: [OnceLock<Counter>; AttemptOutcome::ALL.len()],
}

impl HostSeries {
    pub(super) fn new(name: Name) -> Self {
        Self { name, attempts: Default::default() }
    }

    pub(super) fn attempt(&self, outcome: AttemptOutcome, family: &Counters<AttemptLabels>) {
        let labels = || AttemptLabels { host: self.name.clone(), outcome: outcome.as_str() };
        self.attempts[outcome as usize].get_or_init(|| family.get_or_create_owned(&labels())).inc();
    }
}

/// The series of one relay key.
#[derive(Debug)]
pub(super) struct KeySeries {
    name: Name,
    /// Its team at the time that the series were looked up.
    current: RwLock<Option<(Arc<str>, Spent)>>,
}

/// What a relay key used under one team.
#[derive(Clone, Debug)]
struct Spent {
    input: Counter,
    output: Counter,
    cost: Counter,
}

/// What is counted by relay key.
#[derive(Debug, Default)]
pub(super) struct KeyFamilies {
    pub(super) tokens: Counters<KeyTokenLabels>,
    pub(super) cost: Counters<KeyLabels>,
    /// Names of teams that have series of their own.
    pub(super) teams: Named<Name>,
}

impl KeySeries {
    pub(super) fn new(name: Name) -> Self {
        Self { name, current: RwLock::default() }
    }

    pub(super) fn spent(&self, team: &str, usage: &Usage, cost: Option<NanoUsd>, families: &KeyFamilies) {
        let add = |spent: &Spent| {
            spent.input.inc_by(usage.input_total());
            spent.output.inc_by(usage.output);
            spent.cost.inc_by(cost.unwrap_or_default().0);
        };
        if let Some((_, spent)) = self.current.read().as_ref().filter(|(current, _)| **current == *team) {
            return add(spent);
        }
        let spent = self.look_up(team, families);
        add(&spent);
        *self.current.write() = Some((team.into(), spent));
    }

    fn look_up(&self, team: &str, families: &KeyFamilies) -> Spent {
        let (relay_key, team) = (&self.name, &*families.teams.of(Some(team), |name| name));
        let tokens = |kind| {
            let labels = KeyTokenLabels { relay_key: relay_key.clone(), team: team.clone(), kind };
            families.tokens.get_or_create_owned(&labels)
        };
        let labels = KeyLabels { relay_key: relay_key.clone(), team: team.clone() };
        Spent { input: tokens("input"), output: tokens("output"), cost: families.cost.get_or_create_owned(&labels) }
    }
}
