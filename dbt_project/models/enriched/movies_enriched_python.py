"""The second way in: the same enrichment from a Python model.

The engine, the ledger and the answers are those of `movies_enriched`. The task below says the same
as that model's YAML, so each film has the same key in both, and the model that comes second pays
nothing. A Python model sees no column YAML: its task states types and descriptions itself.
"""

from dbt_enrich import EnrichmentTask, OutputColumn, enrich
from dbt_enrich.task import EnrichmentOptions

TASK = EnrichmentTask(
    model="gpt-4o-mini",
    system=(
        "Your goal is to extract movie categories from movie descriptions, as well as a\n"
        "1-sentence summary for these movies. You will be provided with a movie description,\n"
        "and you will output a json object with the categories and the summary."
    ),
    user="{overview}",
    outputs=[
        OutputColumn(
            name="categories",
            data_type="varchar[]",
            description=(
                "Genres that are most obvious from the description, lower case, at most four"
            ),
            max_items=4,
            lower=True,
            unique_items=True,
        ),
        OutputColumn(name="summary", data_type="varchar", description="The film in one sentence"),
    ],
    parameters={"temperature": 0.1, "max_tokens": 200},
    examples=[
        {
            "user": "A retired thief plans one last job.",
            "answer": {
                "categories": ["crime", "thriller"],
                "summary": "An old thief goes back for a final heist.",
            },
        },
    ],
)


def model(dbt, session):
    # Nothing is read from it: dbt runs this model after it, and every answer is there already.
    dbt.ref("movies_enriched")
    movies = dbt.ref("stg_movies").select(
        "movie_id", "title", "released_year", "runtime_minutes", "rating", "overview"
    )
    mode = dbt.config.get("meta")["enrichment_mode"]
    options = EnrichmentOptions(mode=mode)
    return enrich(dbt, session, movies, TASK, unique_key="movie_id", options=options)
