//! `kontiki node-launch` and `kontiki node-init`: the two steps of a local node's start.

/// Flags of both.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the cluster
    #[arg(long)]
    pub cluster: String,
    /// Name of the node
    #[arg(long)]
    pub node: String,
}
