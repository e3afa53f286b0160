//! Calls by name, with bytes: so that a method that nobody thought of can be called, too.

use super::Bearer;
use bytes::{Buf as _, BufMut as _, Bytes};
use futures::StreamExt as _;
use prost::Message as _;
use quorate_proto::v1;
use std::time::Duration;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::service::Interceptor as _;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// How long a stream that says nothing is waited for: it is open then.
const SILENCE: Duration = Duration::from_millis(150);

#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// What a call comes to: its first answer, or none because it is open and silent.
pub(super) async fn call(
    channel: &Channel,
    token: Option<&str>,
    method: &str,
    body: Bytes,
    streams_requests: bool,
) -> Result<Option<Bytes>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = format!("/quorate.v1.{method}").parse().expect("it is a path");
    let answers = async {
        let mut shown = Request::new(());
        if let Some(token) = token {
            shown = Bearer(token.to_owned()).call(shown)?;
        }
        let metadata = shown.metadata().clone();
        let with = |request: &mut tonic::metadata::MetadataMap| *request = metadata.clone();
        if streams_requests {
            let mut request =
                Request::new(futures::stream::iter([body]).chain(futures::stream::pending()));
            with(request.metadata_mut());
            grpc.streaming(request, path, Raw).await
        } else {
            let mut request = Request::new(body);
            with(request.metadata_mut());
            grpc.server_streaming(request, path, Raw).await
        }
    };
    let Ok(answers) = timeout(Duration::from_secs(5), answers).await else {
        panic!("{method} was not answered");
    };
    let mut answers = answers?.into_inner();
    match timeout(SILENCE, answers.message()).await {
        Ok(first) => first,
        Err(_) => Ok(None),
    }
}

/// The same as one call of a pipeline: the code of its failure, if it is one.
pub(super) async fn piped(channel: &Channel, token: &str, field: u32, body: &[u8]) -> Option<Code> {
    let mut call =
        v1::PipelineCall { id: 1, timeout_ms: 100, ..Default::default() }.encode_to_vec();
    prost::encoding::bytes::encode(field, &body.to_vec(), &mut call);
    let mut request = Vec::new();
    prost::encoding::bytes::encode(1, &call, &mut request);
    let method = "PipelineService/Open";
    // The first message may only be a welcome.
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let mut request = Request::new(
        futures::stream::iter([Bytes::from(request)]).chain(futures::stream::pending()),
    );
    let shown = Bearer(token.to_owned()).call(Request::new(())).unwrap();
    *request.metadata_mut() = shown.metadata().clone();
    let path = format!("/quorate.v1.{method}").parse().unwrap();
    let mut answers = grpc.streaming(request, path, Raw).await.unwrap().into_inner();
    loop {
        let message = timeout(Duration::from_secs(5), answers.message()).await;
        let message = message.expect("a call is answered").unwrap().expect("the stream goes on");
        let message = v1::PipelineResponse::decode(message).unwrap();
        if let Some(answer) = message.answers.into_iter().next() {
            return match answer.answer {
                Some(v1::pipeline_answer::Answer::Error(error)) => {
                    Some(Code::from_i32(i32::try_from(error.code).unwrap()))
                }
                _ => None,
            };
        }
    }
}
