-- What a ticket says, without what its mail program put around it.
with received as (

    select
        ticket_id,
        received_at,
        channel,
        nullif(trim(regexp_replace(subject, '[\s\pZ]+', ' ', 'g')), '') as subject,
        body
    from {{ ref('tickets') }}
    where received_at < '{{ var("tickets_until", "9999-12-31") }}'::timestamp

),

without_html as (

    -- A tag begins with a letter, so that "a < b" stays.
    select
        * exclude (body),
        regexp_replace(
            regexp_replace(body, '<(br|/p|/div)\b[^<>]*>', chr(10), 'gi'), '</?[a-z][^<>]*>', '', 'gi'
        ) as body
    from received

),

without_entities as (

    select
        * exclude (body),
        body.replace('&nbsp;', ' ').replace('&lt;', '<').replace('&gt;', '>').replace('&quot;', '"')
            .replace('&#39;', '''').replace('&amp;', '&') as body
    from without_html

),

without_quotes as (

    -- The mail that is answered, and a phone's signature.
    select
        * exclude (body),
        regexp_replace(
            body, '\n+(On [^\n]* wrote:|> |Sent from my )(.|\n)*$', '', ''
        ) as body
    from without_entities

)

select
    ticket_id,
    received_at,
    channel,
    subject,
    -- A log of thousands of lines says no more than its beginning, and costs.
    nullif(left(trim(body, ' ' || chr(9) || chr(10) || chr(13) || chr(160)), 2000), '') as body
from without_quotes
