"""Stages the seed, or the CSV file that the variable `movies_csv` names, as typed rows.

DuckDB does the work on relations: no pandas, and no Python for a single row. What is left out
here stands in `stg_movies_rejected`.
"""

# A layout is known by its title column, and says where each of our columns comes from.
LAYOUTS = {
    "title": {
        "movie_id": "movie_id",
        "title": "title",
        "released_year": "released_year",
        "runtime": "runtime_minutes",
        "director": "director",
        "genres": "genres",
        "overview": "overview",
    },
    "Series_Title": {
        "title": "Series_Title",
        "released_year": "Released_Year",
        "runtime": "Runtime",
        "director": "Director",
        "genres": "Genre",
        "overview": "Overview",
        "rating": "IMDB_Rating",
        "metascore": "Meta_score",
        "votes": "No_of_Votes",
        "gross": "Gross",
    },
}
COLUMNS = list(dict.fromkeys(name for layout in LAYOUTS.values() for name in layout))


def model(dbt, session):
    path = dbt.config.get("meta")["movies_csv"]
    if path:
        rows = session.read_csv(path, header=True, all_varchar=True)
    else:
        rows = dbt.ref("movies")
    return first_of_each(with_id(typed(as_text(rows)))).order("source_row")


def as_text(rows):
    """Give the columns of either layout one name, as text without blanks around it."""
    layout = next((LAYOUTS[name] for name in LAYOUTS if name in rows.columns), None)
    if layout is None or not set(layout.values()) <= set(rows.columns):
        wanted = " or ".join(", ".join(each.values()) for each in LAYOUTS.values())
        raise ValueError(
            f"movies_csv: the file has the columns {', '.join(rows.columns)}; it needs {wanted}"
        )
    texts = ", ".join(
        rf"""nullif(regexp_replace("{layout[name]}"::varchar, '^[\s\pZ]+|[\s\pZ]+$', '', 'g'), '')
        as {name}"""
        if name in layout
        else f"null::varchar as {name}"
        for name in COLUMNS
    )
    return rows.project(f"row_number() over () as source_row, {texts}")


def typed(rows):
    """Type each column; what is no value of its type, such as the year `PG`, becomes null."""
    return rows.project(
        r"""
        source_row,
        movie_id,
        title,
        try_cast(regexp_extract(released_year, '^(18|19|20)\d\d$') as integer) as released_year,
        try_cast(regexp_extract(runtime, '^(\d+)( min)?$', 1) as integer) as runtime_minutes,
        director,
        [
            case genre when 'sci-fi' then 'science fiction' when 'film-noir' then 'film noir'
            else genre end
            for genre in regexp_split_to_array(lower(coalesce(genres, '')), '\s*[|,]\s*')
            if genre <> ''
        ] as genres,
        overview,
        try_cast(rating as double) as rating,
        try_cast(metascore as integer) as metascore,
        try_cast(replace(votes, ',', '') as bigint) as votes,
        try_cast(replace(gross, ',', '') as bigint) as gross_usd
        """
    )


def with_id(rows):
    """Make an id of title and year where the file has none: `the-godfather-1972`."""
    slug = r"trim(regexp_replace(lower(strip_accents(title)), '[^\pL\pM\pN]+', '-', 'g'), '-')"
    made = f"concat_ws('-', coalesce(nullif({slug}, ''), md5(title)), released_year)"
    return rows.project(f"* replace (coalesce(movie_id, {made}) as movie_id)")


def first_of_each(rows):
    """Keep the films that can be enriched: with a title and an overview, one row for each id."""
    return (
        rows.filter("title is not null and overview is not null")
        .project("*, row_number() over (partition by movie_id order by source_row) as occurrence")
        .filter("occurrence = 1")
        .project("* exclude (occurrence)")
    )
