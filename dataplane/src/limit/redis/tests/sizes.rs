//! What is held while Redis is asked: for each request it is allocated and moved.

use std::{mem::size_of_val, sync::Arc};

use super::{
    super::{Redis, Settings, reserve, script::Time},
    books,
    places::{Place, Standalone},
};
use crate::{limit::claims::Claims, pool::signals::Signals};

/// What is rare, as opening a connection and following a redirection, gets its memory where it happens.
const MOST: usize = 5 * 1_024;

#[tokio::test]
async fn who_waits_for_an_answer_holds_nothing_of_what_opens_connections() {
    let (books, place) = (books(), Standalone::shared());
    let settings = Settings { prefix: "sizes".to_owned(), time: Time::Redis, records: None };
    let redis =
        Redis::start(place.target(), &settings, &books, Arc::new(Signals::new())).await.expect("a whole target");
    let reserving = size_of_val(&reserve::reserve(&redis.inner, Claims::default()));
    assert!(reserving <= MOST, "{reserving} bytes");
}
