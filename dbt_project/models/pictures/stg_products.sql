select
    product_id,
    department,
    nullif(
        trim(regexp_replace(title, '</?[a-z][^<>]*>', ' ', 'gi').replace('&amp;', '&')), ''
    ) as title,
    -- A path counts from the project's directory.
    nullif(picture, '') as picture,
    -- The first colour that the title names, in English.
    nullif(regexp_extract(
        lower(title),
        '\b(red|orange|yellow|green|blue|purple|pink|brown|black|white|grey)\b'
    ), '') as colour_of_title
from {{ ref('products') }}
