select
    feedback_id,
    submitted_on,
    product,
    channel,
    rating,
    nullif(
        trim(regexp_replace(regexp_replace(comment, '</?[a-z][^<>]*>', '', 'gi'), '[\s\pZ]+', ' ', 'g')),
        ''
    ) as comment
from {{ ref('feedback') }}
