//! Answers in every legal form mean the same here as to hyper's client.

use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, proptest},
    prop_assert_eq, prop_oneof,
    sample::select,
    test_runner::Config,
};

use super::*;

/// An answer, and how it comes.
#[derive(Clone, Debug)]
struct Case {
    method: Method,
    answer: Vec<u8>,
    /// Where the other side waits a moment.
    cuts: Vec<usize>,
    /// So many bytes are under way at once.
    room: usize,
}

fn blank() -> impl Strategy<Value = &'static str> {
    select(vec!["", " ", "\t", "  \t "])
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => 0x21..0x7f_u8, 1 => 0x80..=0xff_u8, 1 => Just(b' '), 1 => Just(b'\t')];
    vec(byte, 0..30)
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    let name = select(vec!["X-One", "x-two", "Content-Type", "SET-COOKIE", "x_3", "date", "!#$%&'*+-.^`|~"]);
    (name, blank(), value(), blank()).prop_map(|(name, before, value, after)| {
        [name.as_bytes(), b":", before.as_bytes(), &value, after.as_bytes()].concat()
    })
}

fn lines(fields: &[Vec<u8>]) -> Vec<u8> {
    fields.iter().flat_map(|field| [field, &b"\r\n"[..]].concat()).collect()
}

fn interim() -> impl Strategy<Value = Vec<u8>> {
    let status = select(vec!["100 Continue", "102 Processing", "103 Early Hints", "199 "]);
    let one = (status, vec(field(), 0..3))
        .prop_map(|(status, fields)| [format!("HTTP/1.1 {status}\r\n").as_bytes(), &lines(&fields), b"\r\n"].concat());
    vec(one, 0..3).prop_map(|all| all.concat())
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![4 => vec(any::<u8>(), 0..200), 1 => vec(any::<u8>(), 3_000..20_000)]
}

/// The headers that delimit a body, and the body as it is written.
fn framed() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    prop_oneof![length(), chunked(), until_close()]
}

fn length() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let form = select(vec!["content-length: #", "Content-Length:\t#  ", "CONTENT-LENGTH: 0#", "content-length: #, #"]);
    let forms = vec(form, 1..3);
    (forms, body()).prop_map(|(forms, body)| {
        let fields: Vec<_> = forms.iter().map(|form| form.replace('#', &body.len().to_string()).into_bytes()).collect();
        (lines(&fields), body)
    })
}

fn until_close() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    body().prop_map(|body| (Vec::new(), body))
}

fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let header =
        select(vec!["transfer-encoding: chunked", "Transfer-Encoding:Chunked ", "TRANSFER-ENCODING: \tCHUNKED"]);
    let extension = select(vec!["", ";a", "; a=b", " ;a=\"b;c\"", " ", "\t"]);
    let size = (select(vec!["", "0", "000000000000000000000"]), any::<bool>(), extension);
    let chunk = (size, vec(any::<u8>(), 1..300)).prop_map(|((zeros, upper, extension), data)| {
        let digits = if upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
        [format!("{zeros}{digits}{extension}\r\n").as_bytes(), &data, b"\r\n"].concat()
    });
    let last = select(vec!["0\r\n", "000\r\n", "0;last\r\n"]);
    (header, vec(chunk, 0..6), last, vec(field(), 0..3)).prop_map(|(header, chunks, last, trailers)| {
        let body = [&chunks.concat(), last.as_bytes(), &lines(&trailers), b"\r\n"].concat();
        (lines(&[header.as_bytes().to_vec()]), body)
    })
}

fn answer() -> impl Strategy<Value = (Method, Vec<u8>)> {
    let status =
        select(vec!["200 OK", "200 ", "201", "204 No Content", "304 Not Modified", "404 \u{fc}", "413 x y", "599 -"]);
    let method = prop_oneof![4 => Just(Method::POST), 1 => Just(Method::GET), 1 => Just(Method::HEAD)];
    let version = prop_oneof![4 => Just("1.1"), 1 => Just("1.0")];
    let connection = select(vec!["", "connection: close\r\n", "Connection: x, Keep-Alive\r\n"]);
    let head = (version, status, connection, vec(field(), 0..5), vec(field(), 0..5));
    (method, interim(), head, framed()).prop_map(
        |(method, interim, (version, status, connection, one, two), (framing, body))| {
            // Chunks are of HTTP/1.1 only.
            let is_chunked = framing.to_ascii_lowercase().starts_with(b"transfer");
            let version = if is_chunked { "1.1" } else { version };
            let first = format!("HTTP/{version} {status}\r\n{connection}");
            let has_body = method != Method::HEAD && !status.starts_with("204") && !status.starts_with("304");
            let body = if has_body { body } else { Vec::new() };
            (method, [&interim, first.as_bytes(), &lines(&one), &framing, &lines(&two), b"\r\n", &body].concat())
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let room = prop_oneof![Just(1), 2..50_usize, Just(1 << 20)];
    (answer(), vec(any::<proptest::sample::Index>(), 0..8), room).prop_map(|((method, answer), cuts, room)| {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(answer.len())).collect();
        cuts.sort_unstable();
        Case { method, answer, cuts, room }
    })
}

/// The other side: takes one request, answers, and ends.
async fn serve(mut far: DuplexStream, case: Case) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n{}") {
        match far.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => return,
        }
    }
    let mut from = 0;
    for cut in case.cuts.into_iter().chain([case.answer.len()]) {
        // The client may have gone.
        if far.write_all(&case.answer[from..cut]).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
        from = cut;
    }
}

async fn here(case: Case) -> Result<Seen, ()> {
    let (mut connection, far) = pair(case.room);
    tokio::spawn(serve(far, case.clone()));
    let mut asked = request(case.method, b"{}");
    let (head, mut incoming) = ask(&mut connection, &mut asked, &HOST).await.map_err(drop)?.into_parts();
    let (mut body, mut trailers) = (Vec::new(), Vec::new());
    while let Some(frame) = frame(&mut incoming, &mut connection).await {
        match frame.map_err(drop)?.into_data() {
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = listed(frame.trailers_ref().unwrap()),
        }
    }
    Ok(Seen { version: head.version, status: head.status, headers: listed(&head.headers), body, trailers })
}

async fn hypers(case: Case) -> Result<Seen, ()> {
    let (near, far) = tokio::io::duplex(case.room);
    tokio::spawn(serve(far, case.clone()));
    let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.map_err(drop)?;
    tokio::spawn(connection);
    let asked = request(case.method, b"").map(|_| Full::new(Bytes::from_static(b"{}")));
    let (head, incoming) = sender.send_request(asked).await.map_err(drop)?.into_parts();
    let whole = incoming.collect().await.map_err(drop)?;
    let trailers = whole.trailers().map(listed).unwrap_or_default();
    let body = whole.to_bytes().to_vec();
    Ok(Seen { version: head.version, status: head.status, headers: listed(&head.headers), body, trailers })
}

fn both(case: Case) -> (Result<Seen, ()>, Result<Seen, ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { (here(case.clone()).await, hypers(case).await) })
}

proptest! {
    #![proptest_config(Config { cases: 600, ..Config::default() })]

    #[test]
    fn legal_answers_mean_the_same_as_to_hyper(case in case()) {
        let (ours, expected) = both(case);
        prop_assert_eq!(&ours, &expected);
        assert!(expected.is_ok(), "what is generated is legal");
    }

    #[test]
    fn an_answer_that_is_cut_short_or_has_a_wrong_byte_is_taken_only_where_hyper_takes_it_and_means_the_same(
        case in case(), at in any::<proptest::sample::Index>(), byte in any::<Option<u8>>(),
    ) {
        let mut case = case;
        let at = at.index(case.answer.len());
        match byte {
            Some(byte) => case.answer[at] = byte,
            None => case.answer.truncate(at),
        }
        let length = case.answer.len();
        case.cuts.iter_mut().for_each(|cut| *cut = (*cut).min(length));
        let (ours, hypers) = both(case);
        if ours.is_ok() {
            prop_assert_eq!(ours, hypers);
        }
    }
}
