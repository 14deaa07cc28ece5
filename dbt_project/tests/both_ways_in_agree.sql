select
    movie_id,
    by_sql.enrichment_key as sql_key,
    by_python.enrichment_key as python_key
from {{ ref('movies_enriched') }} as by_sql
inner join {{ ref('movies_enriched_python') }} as by_python using (movie_id)
where by_sql.enrichment_status = 'done'
  and by_python.enrichment_status = 'done'
  and (
      by_sql.enrichment_key <> by_python.enrichment_key
      or by_sql.categories is distinct from by_python.categories
      or by_sql.summary is distinct from by_python.summary
  )
