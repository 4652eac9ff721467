//! Answers that are hostile, early, or leave a connection in doubt.

use super::*;

/// What comes of an answer.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// No answer: it is not HTTP.
    Refused,
    /// An answer whose body breaks off.
    Broken,
    /// An answer with this body.
    Whole(String),
}

/// Asks a host that answers with `answer` on every connection, and says how that ends and how many connections are kept. The
/// host holds the connection open until the client lets go of it, unless `is_ended`.
async fn ask(method: http::Method, answer: Vec<u8>, is_ended: bool) -> (End, usize) {
    let (url, _) = raw(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            read_request(&mut stream).await;
            // The client may hang up in the middle.
            let _ = stream.write_all(&answer).await;
            if !is_ended {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    })
    .await;
    let client = client(&host(url));
    let mut request = request(&client);
    *request.method_mut() = method;
    let end = match client.send(request).await {
        Err(SendError::Protocol(_)) => End::Refused,
        Err(error) => panic!("{error}"),
        Ok(answer) => match answer.into_body().collect().await {
            Ok(body) => End::Whole(String::from_utf8(body.to_bytes().to_vec()).unwrap()),
            Err(_) => End::Broken,
        },
    };
    (end, client.kept().0)
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

#[tokio::test]
async fn an_answer_whose_end_is_in_doubt_or_that_is_no_http_is_refused_and_its_connection_closed() {
    let many = "a: b\r\n".repeat(101);
    let long = format!("x: {}\r\n", "a".repeat(70_000));
    for headers in [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5, 6\r\n",
        "content-length: 5,\r\n",
        "content-length:\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 5;\r\n",
        "content-length: \u{665}\r\n",
        "content-length: 99999999999999999999\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "no colon\r\n",
        "space before : 1\r\n",
        ": no name\r\n",
        "a: b\r\n folded\r\n",
        "a: \0\r\n",
        "a: b\rc: d\r\n",
        &many,
        &long,
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}\r\nhello");
        assert_eq!(ask(http::Method::POST, answer.into(), false).await, (End::Refused, 0), "{headers:.80}");
    }
    for answer in [
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching\r\nupgrade: h2c\r\n\r\n".to_owned(),
        "HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(4_000),
        format!("HTTP/1.1 103 Early\r\nlink: {}\r\n\r\n", "a".repeat(1_000)).repeat(100),
        "HTTP/1.1 99 Low\r\n\r\n".to_owned(),
        "HTTP/1.1 2000 High\r\n\r\n".to_owned(),
        "HTTP/1.1 xyz\r\n\r\n".to_owned(),
        "HTTP/2.0 200 OK\r\n\r\n".to_owned(),
        "HTTP/1.2 200 OK\r\n\r\n".to_owned(),
        "http/1.1 200 OK\r\n\r\n".to_owned(),
        "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(),
        "SSH-2.0-no-line".to_owned(),
        "{\"error\": \"no HTTP at all\"}".to_owned(),
        format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(300_000)),
    ] {
        let said = format!("{answer:.60}");
        assert_eq!(ask(http::Method::POST, answer.into(), false).await, (End::Refused, 0), "{said}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_the_rules_of_its_framing_breaks_off_and_its_connection_is_closed() {
    let endless_extension = format!("5;{}", "a".repeat(200_000));
    let endless_zeros = "0".repeat(200_000);
    let extensions = format!("1;{}\r\na\r\n", "e".repeat(1_000)).repeat(20);
    let endless_trailer = format!("0\r\nx: {}", "a".repeat(200_000));
    let endless_trailers = format!("0\r\n{}", "x: y\r\n".repeat(50_000));
    let many_trailers = format!("0\r\n{}\r\n", "x: y\r\n".repeat(101));
    for body in [
        "g\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5,a\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        "5\r\nhello\r\n0\r\n a: folded\r\n\r\n",
        "5\r\nhello\r\n0\r\na: b\n\r\n",
        "5\r\nhello\r\n0\r\na: b\r\n\n",
        &endless_extension,
        &endless_zeros,
        &extensions,
        &endless_trailer,
        &endless_trailers,
        &many_trailers,
    ] {
        let end = ask(http::Method::POST, chunked(body).into(), false).await;
        assert_eq!(end, (End::Broken, 0), "{body:.60}");
    }
    for cut in
        ["5", "5\r", "5\r\n", "5\r\nhell", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "0\r\na: b\r\n"]
    {
        assert_eq!(ask(http::Method::POST, chunked(cut).into(), true).await, (End::Broken, 0), "{cut:?}");
    }
    // More than there is memory for is promised, and nothing is made for it.
    for length in ["6", "1152921504606846976", "18446744073709551615"] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhello");
        assert_eq!(ask(http::Method::POST, answer.into(), true).await, (End::Broken, 0), "{length}");
    }
    let huge = chunked("ffffffffffffffff\r\nhello");
    assert_eq!(ask(http::Method::POST, huge.into(), true).await, (End::Broken, 0));
}

#[tokio::test]
async fn a_connection_is_kept_where_both_sides_want_it_and_nothing_came_behind_the_answer() {
    let hello = || End::Whole("hello".to_owned());
    for (answer, is_kept) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", true),
        ("HTTP/1.1 200\r\nContent-Length: 5, 5\r\ncontent-length: 005\r\n\r\nhello", true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2 ;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nt: u\r\n\r\n", true),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello", true),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\nconnection: x\r\nConnection: y, Close\r\ncontent-length: 5\r\n\r\nhello", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello!", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\r\n", false),
    ] {
        let seen = ask(http::Method::POST, answer.into(), false).await;
        assert_eq!(seen, (hello(), usize::from(is_kept)), "{answer:?}");
    }
    for answer in ["HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nhello"] {
        assert_eq!(ask(http::Method::POST, answer.into(), true).await, (hello(), 0), "{answer:?}");
    }
    for (method, answer) in [
        (http::Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        (http::Method::HEAD, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        (http::Method::POST, "HTTP/1.1 204 No Content\r\n\r\n"),
        (http::Method::POST, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
        (http::Method::POST, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        assert_eq!(ask(method, answer.into(), false).await, (End::Whole(String::new()), 1), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_that_was_read_to_its_end_has_given_its_connection_back_at_once() {
    let (url, accepted) = raw(polite).await;
    let client = client(&host(url));
    let mut answer = client.send(request(&client)).await.unwrap();
    let data = answer.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!((&data[..], client.kept()), (&b"hello"[..], (1, 0)));
    assert!(http_body::Body::is_end_stream(answer.body()));
    assert_eq!(text(&client).await.unwrap(), "hello");
    assert!(answer.body_mut().frame().await.is_none());
    assert_eq!((accepted.load(Ordering::SeqCst), client.kept()), (1, (1, 0)));
}

/// Reads a head, and gives what came behind it.
async fn read_head(stream: &mut TcpStream) -> usize {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut piece).await.unwrap();
        seen.extend_from_slice(&piece[..read]);
        if let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            return seen.len() - at - 4;
        }
    }
}

const LARGE: usize = 16 << 20;

fn large(client: &Client) -> Request<Whole> {
    request(client).map(|_| Whole::from(Bytes::from(vec![b'x'; LARGE])))
}

#[tokio::test]
async fn an_answer_that_comes_before_the_end_of_the_request_is_taken_and_its_connection_closed() {
    for is_closed in [false, true] {
        let (url, accepted) = raw(move |_, mut stream| async move {
            read_head(&mut stream).await;
            write(&mut stream, "HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nhello").await;
            if !is_closed {
                // The rest of the request is never read.
                std::future::pending::<()>().await;
            }
        })
        .await;
        let client = client(&host(url));
        let answer = client.send(large(&client)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
        assert_eq!((client.kept(), accepted.load(Ordering::SeqCst)), ((0, 0), 1));
    }
}

#[tokio::test]
async fn a_request_goes_on_while_the_body_of_its_early_answer_is_read() {
    let (url, _) = raw(|_, mut stream| async move {
        let mut read = read_head(&mut stream).await;
        write(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let mut piece = vec![0; 64 << 10];
        while read < LARGE {
            read += stream.read(&mut piece).await.unwrap();
        }
        write(&mut stream, &format!("8\r\n{read}\r\n0\r\n\r\n")).await;
    })
    .await;
    let client = client(&host(url));
    let answer = client.send(large(&client)).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), LARGE.to_string());
    assert_eq!(client.kept(), (0, 0));
}

#[tokio::test]
async fn a_kept_connection_on_which_something_came_unasked_is_not_used_again() {
    for unasked in ["HTTP/1.1 408 Request Timeout\r\ncontent-length: 3\r\n\r\nbad", ""] {
        let (went, mut gone) = tokio::sync::mpsc::unbounded_channel();
        let (url, accepted) = raw(move |number, mut stream| {
            let went = went.clone();
            async move {
                read_request(&mut stream).await;
                write(&mut stream, HELLO).await;
                if number == 1 {
                    write(&mut stream, unasked).await;
                    stream.shutdown().await.unwrap();
                    went.send(()).unwrap();
                }
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        })
        .await;
        let client = client(&host(url));
        let mut answer = client.send(request(&client)).await.unwrap();
        gone.recv().await.unwrap();
        answer.body_mut().frame().await.unwrap().unwrap();
        drop(answer);
        // What happened has to reach this process; nothing here waits for it.
        tokio::task::yield_now().await;
        assert_eq!(text(&client).await.unwrap(), "hello");
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_host_has_closed_does_not_linger() {
    let (went, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let answered = Arc::new(tokio::sync::Notify::new());
    let closes = answered.clone();
    let (url, _) = raw(move |_, mut stream| {
        let (went, closes) = (went.clone(), closes.clone());
        async move {
            read_request(&mut stream).await;
            write(&mut stream, HELLO).await;
            closes.notified().await;
            drop(stream);
            went.send(()).unwrap();
        }
    })
    .await;
    let http = Http { idle_timeout: Duration::from_secs(60), ..Http::default() };
    let client = client(&Host { http, ..host(url) });
    text(&client).await.unwrap();
    assert_eq!(client.kept(), (1, 0));
    answered.notify_one();
    gone.recv().await.unwrap();
    // What happened has to reach this process; nothing here waits for it.
    tokio::task::yield_now().await;
    // The reaper looks twice in that time: once before it is up.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    let begun = std::time::Instant::now();
    while client.kept() != (0, 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not dropped before its time is up");
        tokio::task::yield_now().await;
    }
}
