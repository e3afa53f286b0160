//! Transactions: those that change something go through the log; those that only read through a
//! barrier, unless they may be stale.

use super::{Context, Deadline, Refused};
use crate::wire;
use quorate_proto::v1;
use quorate_proto::v1::txn_service_server::TxnService;
use quorate_state::query;
use tonic::{Request, Response, Status};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl TxnService for Service {
    async fn commit(
        &self,
        request: Request<v1::TxnRequest>,
    ) -> Result<Response<v1::TxnResponse>, Status> {
        let deadline = Deadline::of(request.metadata());
        let commit =
            wire::txn::commit(request.into_inner(), &self.0.limits).map_err(Refused::from)?;
        let answer = match commit {
            wire::txn::Commit::Read(read) => self.read(read, deadline).await?,
            wire::txn::Commit::Write(envelope) => {
                let outcome = self.0.propose(*envelope, deadline).await?;
                wire::txn::committed(outcome, self.0.replica.group())?
            }
        };
        Ok(Response::new(answer))
    }
}

impl Service {
    pub(super) async fn read(
        &self,
        read: wire::txn::Read,
        deadline: Deadline,
    ) -> Result<v1::TxnResponse, Refused> {
        let view = self.0.view(read.fresh, deadline).await?;
        let group = self.0.replica.group();
        let outcome = query::transaction(&*view.tables, group, &read.namespace, &read.transaction)?;
        wire::txn::committed(outcome, group)
    }
}
