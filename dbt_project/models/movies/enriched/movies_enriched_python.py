"""The second way in: the same enrichment from a Python model.

The engine, the ledger and the answers are those of `movies_enriched`. The task below says the same
as that model's YAML, so each film has the same key in both, and the model that comes second pays
nothing. A Python model sees no column YAML: its task states types and descriptions itself.
"""

from dbt_enrich import EnrichmentOptions, EnrichmentTask, OutputColumn, enrich

GENRES = (
    "action adventure animation biography comedy crime documentary drama family fantasy history "
    "horror music musical mystery romance science_fiction sport thriller war western"
)
MEMBERS = ", ".join("'" + genre.replace("_", " ") + "'" for genre in GENRES.split())


def example(user, categories, summary):
    return {"user": user, "answer": {"categories": categories, "summary": summary}}


TASK = EnrichmentTask(
    model="gpt-4o-mini",
    system=(
        "Extract movie categories and a one-sentence summary from a movie description. Answer\n"
        "with a JSON object: categories is an array of one to four lower-case genres, the most\n"
        "obvious ones; summary is the film in one sentence."
    ),
    user="{overview}",
    outputs=[
        OutputColumn(
            name="categories",
            data_type=f"enum({MEMBERS})[]",
            description="Genres that are most obvious from the description",
            max_items=4,
            unique_items=True,
        ),
        OutputColumn(name="summary", data_type="varchar", description="The film in one sentence"),
    ],
    parameters={"temperature": 0, "max_tokens": 160},
    examples=[
        example(
            "A family moves into a lighthouse where every night somebody knocks from the inside of "
            "a locked door.",
            ["horror", "mystery"],
            "A family is haunted by knocking behind a locked lighthouse door.",
        ),
        example(
            "A salvage crew at the edge of the galaxy wakes a machine that remembers the war that "
            "emptied the Earth.",
            ["adventure", "science fiction"],
            "A space salvage crew awakens a machine from a forgotten war.",
        ),
        example(
            "Two rival wedding planners are booked for the same weekend and must share one hotel, "
            "one cake and, in the end, one heart.",
            ["comedy", "romance"],
            "Rival wedding planners fall in love while they share a hotel.",
        ),
        example(
            "A retired safecracker is pulled back by his old gang for one last bank job, and soon "
            "suspects that one of them talks to the police.",
            ["crime", "thriller"],
            "An old thief joins a last heist and finds a traitor in his gang.",
        ),
        example(
            "In the last winter of the war a young medic and an enemy soldier hide in the same "
            "cellar and have to trust each other.",
            ["drama", "war"],
            "Two enemy soldiers must trust each other to survive the war.",
        ),
        example(
            "A couple who have not spoken in ten years are called back to the farm where they were "
            "happy, to sell it.",
            ["drama", "romance"],
            "An estranged couple return to sell the farm they loved.",
        ),
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
