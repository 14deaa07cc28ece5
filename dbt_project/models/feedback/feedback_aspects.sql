-- What each comment says of what: a row for each aspect.
with mentioned as (

    select
        feedback_id,
        submitted_on,
        product,
        english,
        unnest(aspects) as mention
    from {{ ref('feedback_enriched') }}
    where enrichment_status = 'done'

)

select
    feedback_id,
    submitted_on,
    product,
    mention.aspect::varchar as aspect,
    mention.sentiment::varchar as sentiment,
    mention.quote,
    -- Letters and digits alone are compared: a model straightens quotation marks and spaces.
    regexp_replace(lower(mention.quote), '[^\pL\pN]+', '', 'g') <> ''
    and contains(
        regexp_replace(lower(english), '[^\pL\pN]+', '', 'g'),
        regexp_replace(lower(mention.quote), '[^\pL\pN]+', '', 'g')
    ) as is_quoted
from mentioned
