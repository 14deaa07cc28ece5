with counted as (

    select
        (select count(*) from {{ movies_source() }}) as source_rows,
        (select count(*) from {{ ref('stg_movies') }}) as staged_rows,
        (select count(*) from {{ ref('stg_movies_rejected') }}) as rejected_rows

)

select *
from counted
where source_rows <> staged_rows + rejected_rows
