"""Cohere's official SDK, unmodified, against a running gateway: reranks.

Takes CFR_BASE_URL, CFR_KEY and CFR_BROKE_KEY (a budget that affords nothing) from the environment. Runs every check,
names each one, and exits with the number of those that failed.
"""

import os
import sys
import traceback

import cohere
from cohere.core.api_error import ApiError

HOST = os.environ["CFR_BASE_URL"].removesuffix("/v1")
MODEL = "rerank-v3.5"
QUERY = "Which river carries light?"
DOCUMENTS = ["Bread under warm rain.", "The river carries light.", "Birds on distant wires."]


def client(key=None):
    return cohere.ClientV2(api_key=key or os.environ["CFR_KEY"], base_url=HOST)


def documents_come_in_order():
    answer = client().rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    assert sorted(result.index for result in answer.results) == [0, 1, 2], answer
    scores = [result.relevance_score for result in answer.results]
    assert answer.results[0].index == 1 and scores == sorted(scores, reverse=True), answer
    assert all(0 <= score <= 1 for score in scores), answer


def what_is_charged_is_told():
    few = client().rerank(model=MODEL, query=QUERY, documents=DOCUMENTS)
    many = client().rerank(model=MODEL, query=QUERY, documents=DOCUMENTS * 50)
    assert (few.meta.billed_units.search_units, many.meta.billed_units.search_units) == (1, 2), (few.meta, many.meta)


def only_the_best_places_come_where_a_few_are_wanted():
    answer = client().rerank(model=MODEL, query=QUERY, documents=DOCUMENTS, top_n=1, max_tokens_per_doc=100)
    assert [result.index for result in answer.results] == [1], answer


def the_first_version_of_the_client_is_answered_too():
    answer = cohere.Client(api_key=os.environ["CFR_KEY"], base_url=HOST).rerank(
        model=MODEL, query=QUERY, documents=[{"text": text} for text in DOCUMENTS], return_documents=True
    )
    assert answer.results[0].document.text == DOCUMENTS[1], answer


def refusals_have_their_status():
    for key, model, status in [
        (None, "nobody's", 404),
        ("cfr_live_nobody", MODEL, 401),
        (os.environ["CFR_BROKE_KEY"], MODEL, 402),
    ]:
        try:
            client(key).rerank(model=model, query=QUERY, documents=DOCUMENTS)
        except ApiError as error:
            assert error.status_code == status, error
        else:
            raise AssertionError(f"{model} was ranked")


CHECKS = [
    documents_come_in_order,
    what_is_charged_is_told,
    only_the_best_places_come_where_a_few_are_wanted,
    the_first_version_of_the_client_is_answered_too,
    refusals_have_their_status,
]


def main():
    failed = 0
    for check in CHECKS:
        try:
            check()
            print(f"ok {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED {check.__name__}\n{traceback.format_exc()}")
    print(f"cohere {cohere.__version__}: {len(CHECKS) - failed} passed, {failed} failed")
    return failed


if __name__ == "__main__":
    sys.exit(main())
