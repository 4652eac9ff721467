//! The request that is explained: read from a file, or made up from what is said of it.

use std::{fs, io, path::PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use dataplane::{
    limit::estimate::{Estimate, Estimator, Sizes},
    plan::Purpose,
};
use protocol::{
    WireShape,
    ask::{self, Ask},
};
use serde_json::json;
use table::ObjectRef;

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Model that is asked for, as a caller writes it
    #[arg(long, value_name = "MODEL", required_unless_present = "request")]
    model: Option<String>,

    /// File with the body of a request instead of the options below; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tools", "vision", "json_schema", "reasoning", "stream"])]
    request: Option<PathBuf>,

    /// Endpoint that is asked
    #[arg(long, value_enum, default_value_t, value_name = "ENDPOINT")]
    endpoint: Endpoint,

    /// The request offers tools
    #[arg(long)]
    tools: bool,

    /// The request holds a picture
    #[arg(long)]
    vision: bool,

    /// The request wants an answer that keeps to a JSON schema
    #[arg(long)]
    json_schema: bool,

    /// The request asks for reasoning
    #[arg(long)]
    reasoning: bool,

    /// The answer is streamed
    #[arg(long)]
    stream: bool,

    /// Tokens of the input
    #[arg(long, value_name = "N")]
    input_tokens: Option<u64>,

    /// Most tokens of the answer that the request allows
    #[arg(long, value_name = "N")]
    max_tokens: Option<u64>,
}

/// An endpoint, with the shape that its requests are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Endpoint {
    /// Chat Completions
    #[default]
    Chat,
    /// Messages
    Messages,
    /// The count of tokens of Messages
    CountTokens,
    /// Embeddings
    Embeddings,
}

impl Asked {
    pub(super) fn purpose(&self) -> Purpose {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Messages => Purpose::Conversation,
            Endpoint::CountTokens => Purpose::CountTokens,
            Endpoint::Embeddings => Purpose::Embeddings,
        }
    }

    fn shape(&self) -> WireShape {
        match self.endpoint {
            Endpoint::Chat | Endpoint::Embeddings => WireShape::OpenaiChat,
            Endpoint::Messages | Endpoint::CountTokens => WireShape::AnthropicMessages,
        }
    }

    /// The request as the data plane reads it.
    pub(super) fn ask(&self) -> anyhow::Result<Ask> {
        let body = match &self.request {
            None => self.made_up(),
            Some(path) if path.as_os_str() == "-" => io::read_to_string(io::stdin())?.into_bytes(),
            Some(path) => fs::read(path).with_context(|| format!("reading `{}`", path.display()))?,
        };
        let read = match self.purpose() {
            Purpose::Conversation | Purpose::CountTokens => ask::read(self.shape(), &body),
            Purpose::Embeddings => ask::read_embeddings(&body),
        };
        let mut ask = read.map_err(|refusal| anyhow!("{}", refusal.message)).context("the request")?;
        if let Some(model) = &self.model {
            ask.model.clone_from(model);
        }
        self.add_needs(&mut ask);
        Ok(ask)
    }

    fn made_up(&self) -> Vec<u8> {
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": "Hello"}],
            "input": "Hello",
            "max_tokens": self.max_tokens.unwrap_or(1024),
            "stream": self.stream,
        });
        body.to_string().into_bytes()
    }

    fn add_needs(&self, ask: &mut Ask) {
        ask.needs.tools |= self.tools;
        ask.needs.vision |= self.vision;
        ask.needs.json_schema |= self.json_schema;
        ask.needs.reasoning |= self.reasoning;
        ask.tools = ask.tools.max(usize::from(self.tools));
        ask.images = ask.images.max(usize::from(self.vision));
        ask.max_tokens = self.max_tokens.or(ask.max_tokens);
    }

    /// How many tokens it takes: as the data plane estimates before it has learned anything, unless they are given.
    pub(super) fn estimate(&self, ask: &Ask, key: &ObjectRef, model: &str) -> Estimate {
        let max_output = match self.purpose() {
            Purpose::Conversation => ask.max_tokens.map(|most| most.saturating_mul(ask.answers.max(1))),
            Purpose::CountTokens | Purpose::Embeddings => Some(0),
        };
        let sizes = Sizes {
            text_bytes: ask.text_bytes,
            messages: ask.messages,
            tools: ask.tools,
            images: ask.images,
            max_output,
        };
        let estimate = Estimator::new().estimate(key, model, &sizes);
        Estimate { input: self.input_tokens.unwrap_or(estimate.input), ..estimate }
    }
}
