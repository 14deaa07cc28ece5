-- Articles as text: without markup, the title from their first words where there is none.
with texts as (

    select
        article_id,
        published_on,
        section,
        nullif(trim(title), '') as title,
        nullif(
            trim(regexp_replace(
                regexp_replace(
                    regexp_replace(body, '<script.*?</script>', '', 'gis'), '</?[a-z][^<>]*>', ' ', 'gi'
                ).replace('&nbsp;', ' ').replace('&amp;', '&'),
                '[ \t\x{00a0}]+', ' ', 'g'
            )), ''
        ) as body
    from {{ ref('articles') }}

)

select
    article_id,
    published_on,
    section,
    coalesce(title, left(body, 40) || '…') as title,
    body
from texts
