//! A streamed answer on its way through: what each chunk costs.
#![expect(clippy::expect_used, reason = "a bench whose input is wrong has nothing to measure")]

use bytes::Bytes;
use cfr_benches::body::{Wish, chat};
use cfr_core::chat::{Call, Envelope, Operation};
use cfr_core::id::RequestId;
use cfr_providers::adapter::{Adapter as _, Framing};
use cfr_providers::framing::Relay;
use cfr_providers::openai::{OpenAi, Quirks};
use divan::Bencher;
use divan::counter::ItemsCount;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

const CHUNKS: usize = 1_000;

/// Network reads: one chunk each, several chunks at once, chunks torn apart.
#[divan::bench(args = [1, 16, 0])]
fn pass_through(bencher: Bencher<'_, '_>, chunks_per_read: usize) {
    let adapter = OpenAi::new(Quirks::by_name("openai").expect("a row"), None).expect("an address");
    let body = Bytes::from(chat(1_000, Wish { delay_ms: 0, chunks: 1 }).expect("JSON"));
    let envelope = Envelope::parse(Operation::ChatCompletions, &body).expect("a chat");
    let call = Call {
        id: RequestId::from_u128(1),
        operation: Operation::ChatCompletions,
        envelope,
        body,
        files: Vec::new(),
        tags: cfr_core::chat::Tags::default(),
        cache: cfr_core::cache::CacheUse::default(),
        drop_params: false,
        betas: None,
        dialect_version: None,
    };
    let reads = reads(chunks_per_read);
    bencher.counter(ItemsCount::new(CHUNKS)).with_inputs(|| reads.clone()).bench_values(|reads| {
        let mut relay = Relay::new(Framing::Sse, adapter.stream_decoder(&call));
        reads.into_iter().map(|read| relay.push(read).event.bytes.len()).sum::<usize>()
    });
}

/// The stream as the network brings it; zero chunks per read cuts it every 700 bytes.
fn reads(chunks_per_read: usize) -> Vec<Bytes> {
    let chunk = |number: usize| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1763700000,\"model\":\"gpt-4o-mini\",\
             \"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\",\"choices\":[{{\"index\":0,\"delta\":\
             {{\"content\":\" word{number}\"}},\"finish_reason\":null}}],\"usage\":null}}\n\n"
        )
    };
    let all: Vec<String> = (0..CHUNKS).map(chunk).collect();
    if chunks_per_read == 0 {
        return all.concat().as_bytes().chunks(700).map(Bytes::copy_from_slice).collect();
    }
    all.chunks(chunks_per_read).map(|chunks| chunks.concat().into()).collect()
}
