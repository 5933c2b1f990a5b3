//! Resources that are created, answered and never stored.

use crate::resources::ResourceKey;

const fn review(group: &'static str, plural: &'static str, kind: &'static str, namespaced: bool) -> ResourceKey {
    ResourceKey { group, version: "v1", plural, kind, namespaced }
}

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Who am I.
pub const SELF_SUBJECT_REVIEWS: ResourceKey = review(AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview", false);
/// Whose token is this.
pub const TOKEN_REVIEWS: ResourceKey = review(AUTHENTICATION, "tokenreviews", "TokenReview", false);
/// May somebody do this in a namespace.
pub const LOCAL_SUBJECT_ACCESS_REVIEWS: ResourceKey =
    review(AUTHORIZATION, "localsubjectaccessreviews", "LocalSubjectAccessReview", true);
/// May I do this.
pub const SELF_SUBJECT_ACCESS_REVIEWS: ResourceKey =
    review(AUTHORIZATION, "selfsubjectaccessreviews", "SelfSubjectAccessReview", false);
/// What may I do in a namespace.
pub const SELF_SUBJECT_RULES_REVIEWS: ResourceKey =
    review(AUTHORIZATION, "selfsubjectrulesreviews", "SelfSubjectRulesReview", false);
/// Which node shall run this pod: the older path of `pods/binding`.
pub const BINDINGS: ResourceKey = review("", "bindings", "Binding", true);
/// May somebody do this.
pub const SUBJECT_ACCESS_REVIEWS: ResourceKey = review(AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview", false);
