with source_rows as (

    select
        row_number() over () as source_row,
        to_json(movies) as source_values
    from {{ movies_source() }} as movies

),

texts as (

    -- The seed's name of a column, or that of the IMDB file.
    select
        source_row,
        coalesce(source_values ->> 'title', source_values ->> 'Series_Title', '') as title,
        coalesce(source_values ->> 'overview', source_values ->> 'Overview', '') as overview,
        source_values
    from source_rows

)

select
    source_row,
    title,
    case
        when regexp_full_match(title, '[\s\pZ]*') then 'no_title'
        when regexp_full_match(overview, '[\s\pZ]*') then 'no_overview'
        else 'repeated_movie_id'
    end as reason,
    source_values
from texts
where source_row not in (select source_row from {{ ref('stg_movies') }})
order by source_row
