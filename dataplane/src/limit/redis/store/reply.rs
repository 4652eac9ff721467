//! What the server answered: a value, an order to go elsewhere, or an error by what has to be done about it.

use std::collections::HashMap;

use redis_client::{ServerError, ServerErrorKind, Value};

use super::{
    error::StoreError,
    slots::{Chart, Range},
    target::Address,
};

/// An answer.
#[derive(Debug, PartialEq)]
pub(super) enum Reply {
    /// What was asked for.
    Value(Value),
    /// The server does not have the script.
    NoScript,
    /// Another node serves the slot, from now on.
    Moved(u16, Address),
    /// Another node has this key of a slot that is being moved.
    Ask(Address),
    /// Some keys of the call are here and some there, for a moment.
    TryAgain,
    /// The call failed.
    Failed(StoreError),
}

impl Reply {
    /// Reads what the node at `from` answered.
    pub(super) fn read(value: Value, from: &Address) -> Self {
        let Value::ServerError(error) = value else { return Self::Value(value) };
        match error.kind() {
            Some(ServerErrorKind::NoScript) => Self::NoScript,
            Some(ServerErrorKind::TryAgain) => Self::TryAgain,
            Some(ServerErrorKind::Moved) => redirection(&error, from)
                .map_or_else(|| Self::Failed(refused(&error)), |(slot, address)| Self::Moved(slot, address)),
            Some(ServerErrorKind::Ask) => redirection(&error, from)
                .map_or_else(|| Self::Failed(refused(&error)), |(_, address)| Self::Ask(address)),
            _ => Self::Failed(failure(&error)),
        }
    }
}

/// The error by what has to be done about it.
pub(super) fn failure(error: &ServerError) -> StoreError {
    match error.kind() {
        Some(ServerErrorKind::ReadOnly) => StoreError::ReadOnly,
        Some(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain,
        ) => StoreError::Busy(words(error)),
        _ if error.code() == "BUSY" => StoreError::Busy(words(error)),
        _ => refused(error),
    }
}

/// Whether the connection is of no more use, although the server still answers on it.
pub(super) fn ends_connection(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::ReadOnly) || error.code() == "NOAUTH"
}

/// Whether the error says that the user may not call the command.
pub(super) fn is_not_permitted(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoPerm)
}

fn refused(error: &ServerError) -> StoreError {
    StoreError::Refused(words(error))
}

fn words(error: &ServerError) -> String {
    error.details().map_or_else(|| error.code().to_owned(), |details| format!("{} {details}", error.code()))
}

/// `3999 10.0.0.1:6381`; without a host it is that of the node which answered.
fn redirection(error: &ServerError, from: &Address) -> Option<(u16, Address)> {
    let (slot, address) = error.details()?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let slot = slot.parse().ok().filter(|slot| usize::from(*slot) < super::slots::SLOTS)?;
    Some((slot, place(host, port.parse().ok()?, from)))
}

fn place(host: &str, port: u16, from: &Address) -> Address {
    let known = !matches!(host, "" | "?");
    Address::new(if known { host } else { &from.host }, port)
}

/// The blob of a script's reply.
pub(super) fn blob(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(unexpected("a string", &other)),
    }
}

/// Whether a `SET NX` set anything.
pub(super) fn was_set(value: &Value) -> Result<bool, StoreError> {
    match value {
        Value::Okay => Ok(true),
        Value::Nil => Ok(false),
        other => Err(unexpected("OK or nil", other)),
    }
}

/// The fields of a hash.
pub(super) fn fields(value: Value) -> Result<HashMap<String, Vec<u8>>, StoreError> {
    let Value::Array(items) = value else { return Err(unexpected("an array", &value)) };
    let mut fields = HashMap::with_capacity(items.len() / 2);
    let mut items = items.into_iter();
    while let (Some(name), Some(value)) = (items.next(), items.next()) {
        let name = String::from_utf8(blob(name)?);
        let name = name.map_err(|_| StoreError::Refused("a field's name is not UTF-8".to_owned()))?;
        fields.insert(name, blob(value)?);
    }
    Ok(fields)
}

/// A value of a reply of alternating names and values, as sentinels give.
pub(super) fn named<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    let Value::Array(items) = value else { return None };
    items.chunks_exact(2).find(|pair| text(&pair[0]) == Some(name)).and_then(|pair| text(&pair[1]))
}

/// The address in an array of host and port.
pub(super) fn address(value: &Value) -> Option<Address> {
    let Value::Array(items) = value else { return None };
    let [host, port, ..] = items.as_slice() else { return None };
    Some(Address::new(text(host)?, text(port)?.parse().ok()?))
}

/// The replica that a sentinel is making the master, of those that `SENTINEL REPLICAS` lists.
pub(super) fn promoted(replicas: &Value) -> Option<Address> {
    let Value::Array(replicas) = replicas else { return None };
    let is_promoted = |flags: &str| flags.split(',').any(|flag| flag == "promoted");
    let promoted = replicas.iter().find(|replica| named(replica, "flags").is_some_and(is_promoted))?;
    Some(Address::new(named(promoted, "ip")?, named(promoted, "port")?.parse().ok()?))
}

/// The first word of `ROLE`.
pub(super) fn role(value: &Value) -> Option<&str> {
    let Value::Array(items) = value else { return None };
    items.first().and_then(text)
}

/// The chart in the replies to `CLUSTER INFO` and `CLUSTER SLOTS` of the node at `from`.
pub(super) fn chart(info: &Value, slots: &Value, from: &Address) -> Result<Chart, StoreError> {
    let epoch = text(info)
        .and_then(|info| info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")))
        .and_then(|epoch| epoch.trim().parse().ok())
        .ok_or_else(|| unexpected("CLUSTER INFO with an epoch", info))?;
    let Value::Array(items) = slots else { return Err(unexpected("CLUSTER SLOTS", slots)) };
    let ranges: Option<Vec<_>> = items.iter().map(|item| range(item, from)).collect();
    Ok(Chart { epoch, ranges: ranges.ok_or_else(|| unexpected("ranges of slots", slots))? })
}

fn range(value: &Value, from: &Address) -> Option<Range> {
    let Value::Array(items) = value else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = items.as_slice() else { return None };
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
    let fits = first <= last && usize::from(last) < super::slots::SLOTS;
    let host = text(host).unwrap_or_default();
    fits.then_some(Range { first, last, master: place(host, u16::try_from(*port).ok()?, from) })
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// Names the kind of what came, not its content.
fn unexpected(expected: &str, value: &Value) -> StoreError {
    let came = match value {
        Value::ServerError(error) => return failure(error),
        Value::Nil => "nil",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::VerbatimString { .. } => "a string",
        Value::Array(_) => "an array",
        Value::Okay => "OK",
        _ => "something else",
    };
    StoreError::Refused(format!("the reply is {came} and not {expected}"))
}

#[cfg(test)]
mod tests {
    use redis_client::parse_redis_value;

    use super::*;

    fn read(text: &str) -> Reply {
        let value = parse_redis_value(text.as_bytes()).expect("the reply is well formed");
        Reply::read(value, &Address::new("10.0.0.1", 6379))
    }

    fn failed(text: &str) -> StoreError {
        match read(text) {
            Reply::Failed(error) => error,
            other => panic!("{other:?} is no failure"),
        }
    }

    #[test]
    fn redirections_name_the_slot_and_the_node() {
        assert_eq!(read("-MOVED 3999 10.0.0.2:6381\r\n"), Reply::Moved(3999, Address::new("10.0.0.2", 6381)));
        assert_eq!(read("-ASK 3999 redis-2.svc:6381\r\n"), Reply::Ask(Address::new("redis-2.svc", 6381)));
        assert_eq!(read("-ASK 3999 ::1:6381\r\n"), Reply::Ask(Address::new("::1", 6381)));
    }

    #[test]
    fn a_redirection_without_a_host_stays_on_the_host_that_answered() {
        assert_eq!(read("-MOVED 1 :6381\r\n"), Reply::Moved(1, Address::new("10.0.0.1", 6381)));
        assert_eq!(read("-MOVED 1 ?:6381\r\n"), Reply::Moved(1, Address::new("10.0.0.1", 6381)));
    }

    #[test]
    fn a_redirection_that_cannot_be_read_is_refused_in_its_own_words() {
        assert_eq!(failed("-MOVED 99999 a:1\r\n"), StoreError::Refused("MOVED 99999 a:1".to_owned()));
        assert_eq!(failed("-MOVED nonsense\r\n"), StoreError::Refused("MOVED nonsense".to_owned()));
    }

    #[test]
    fn errors_are_told_apart_by_what_mends_them() {
        assert_eq!(failed("-READONLY You can't write.\r\n"), StoreError::ReadOnly);
        assert_eq!(failed("-LOADING in memory\r\n"), StoreError::Busy("LOADING in memory".to_owned()));
        assert_eq!(failed("-BUSY a script\r\n"), StoreError::Busy("BUSY a script".to_owned()));
        assert_eq!(failed("-OOM too much\r\n"), StoreError::Refused("OOM too much".to_owned()));
        assert_eq!(failed("-ERR wrong\r\n"), StoreError::Refused("ERR wrong".to_owned()));
        assert_eq!(read("-NOSCRIPT No matching script.\r\n"), Reply::NoScript);
        assert_eq!(read("-TRYAGAIN Multiple keys\r\n"), Reply::TryAgain);
    }

    #[test]
    fn charts_hold_the_masters_of_all_ranges() {
        let info = Value::BulkString(b"cluster_state:ok\r\ncluster_current_epoch:7\r\n".to_vec());
        let slots = "*2\r\n*3\r\n:0\r\n:99\r\n*3\r\n$1\r\na\r\n:1\r\n$2\r\nid\r\n*4\r\n:100\r\n:16383\r\n*3\r\n$0\r\n\r\n:2\r\n$2\r\nid\r\n*3\r\n$1\r\nr\r\n:9\r\n$2\r\nid\r\n";
        let slots = parse_redis_value(slots.as_bytes()).expect("the reply is well formed");
        let chart = chart(&info, &slots, &Address::new("seed", 6379)).expect("the chart is read");
        let range = |first, last, host: &str, port| Range { first, last, master: Address::new(host, port) };
        assert_eq!(chart, Chart { epoch: 7, ranges: vec![range(0, 99, "a", 1), range(100, 16_383, "seed", 2)] });
    }
}
