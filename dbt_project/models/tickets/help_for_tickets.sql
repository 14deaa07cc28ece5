-- The snippets of the help centre that share most words with a ticket, at most three.
with matches as (

    select
        ticket_id,
        snippet_id,
        snippets.title,
        snippets.body,
        len(list_distinct(regexp_extract_all(
            lower(concat_ws(' ', subject, tickets.body)), '\b(?:' || keywords || ')'
        ))) as matched_words
    from {{ ref('stg_tickets') }} as tickets
    cross join {{ ref('help_centre') }} as snippets

),

best as (

    select *
    from matches
    where matched_words > 0
    qualify row_number() over (partition by ticket_id order by matched_words desc, snippet_id) <= 3

)

select
    ticket_id,
    string_agg(
        '[' || snippet_id || '] ' || title || ': ' || body, chr(10)
        order by matched_words desc, snippet_id
    ) as snippets,
    list(snippet_id order by matched_words desc, snippet_id) as offered_snippets
from best
group by ticket_id
